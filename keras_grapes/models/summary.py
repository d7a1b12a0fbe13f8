"""A table of what is modulated in a model or by an optimizer, by how much, and why not."""

import collections

import keras

from keras_grapes import backend, graph, grouping
from keras_grapes.models import factors, gain_bound
from keras_grapes.optimizers.grapes import Grapes

_COLUMNS = ("layer", "weights", "units", "mean", "min", "max", "modulated", "error gain")


def summary(model_or_optimizer):
    """Returns a table of the modulation factors of a model's layers as they are now.

    A row for each group of nodes has the layer, the weights that feed the nodes, how many nodes
    there are, the mean, minimum and maximum of their factors, whether they are modulated (`error`:
    by an `ErrorModulation` or a feedback rule; `update`: by the optimizer) or why not, and the
    *error gain* of the layer: the product of the mean factors on the way from the layer, its own
    included, to the output, the largest where several ways lead there. A layer with an error gain
    of 100 learns as if from a learning rate 100 times as large: where plain training needs a rate
    of 0.01, start near 0.01 divided by the largest gain of the table, and raise it while training
    stays stable. Where ways join again, as in residual networks, the column says `at most`: such a
    bound may be far above, and `keras_grapes.error_gain` measures the gain. It is unknown where
    errors take other ways than those of the graph. A warning tells of a gain that may overflow.
    Factors of an unmodulated group are those that it would have.

    Args:
        model_or_optimizer: A built `keras.Model`, compiled or not, or a built
            `keras_grapes.Grapes`.

    Returns:
        String. Print it.

    Raises:
        TypeError: If the argument is neither.
        ValueError: If it is not built.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, name="hidden"),
    ...     keras.layers.Dense(3, name="out"),
    ... ])
    >>> text = kg.summary(kg.propagate(model))
    >>> print(text.splitlines()[-1].split()[:2])
    ['out', 'kernel']
    """
    if isinstance(model_or_optimizer, Grapes):
        rows, joins = _optimizer_rows(model_or_optimizer), False
    elif isinstance(model_or_optimizer, keras.Model):
        rows, joins = _model_rows(model_or_optimizer)
        gain_bound.warn_if_large(model_or_optimizer, stacklevel=2)
    else:
        raise TypeError(
            "`summary` takes a `keras.Model` or a `keras_grapes.Grapes`. Received: "
            f"{model_or_optimizer!r} of type {type(model_or_optimizer).__name__}"
            f"{graph.keras_2_hint(model_or_optimizer)}"
        )
    columns = (*_COLUMNS[:-1], "error gain, at most") if joins else _COLUMNS
    return _format([columns, *rows])


def _model_rows(model):
    if not model.built or not model.weights:
        raise ValueError(
            f"`summary` needs weights, and model '{model.name}' has none yet. Give it a "
            "`keras.Input`, call `model.build(input_shape)` or call it on data first."
        )
    gains, joins = gain_bound.bounds(model)
    groups_of = collections.defaultdict(list)
    for nodes in factors.node_groups(model):
        groups_of[id(nodes.entry.layer)].append(nodes)

    rows = []
    for entry in factors.weight_layers(model):
        gain = gains.get(id(entry.layer), gains.get(None))
        for nodes in groups_of[id(entry.layer)]:
            guess = " (nodes guessed: last axis)" if nodes.group.guessed else ""
            row = _row(entry.layer.name, nodes.group, nodes.factor(), nodes.status + guess, gain)
            rows.append((row[0], _names_in(entry, nodes.group), *row[2:]))
        if not entry.groups:
            rows.append(_row_without_nodes(entry.layer, gain))
    return rows, joins


def _optimizer_rows(optimizer):
    if not optimizer.built:
        raise ValueError(
            "`summary` needs variables, and the optimizer has none yet. Call "
            "`optimizer.build(model.trainable_variables)`, train a step, or pass the model."
        )
    rows, grouped = [], set()
    elsewhere = grouping.error_modulated()
    for group in optimizer.groups:
        grouped.update(id(kernel) for kernel in group.kernels)
        layer = grouping.path_of(group.kernels[0]).rpartition("/")[0]
        status = "update (nodes guessed: last axis)" if group.guessed else "update"
        factor = keras.ops.convert_to_numpy(group.factor(optimizer.modulation))
        rows.append(_row(layer, group, factor, status, 1.0))
    for variable in optimizer.trainable_variables:
        if id(variable) in grouped:
            continue
        layer, _, name = grouping.path_of(variable).rpartition("/")
        status = "no: not a kernel"
        if backend.variable_key(variable) in elsewhere:
            status = "no: in an ErrorModulation"
        elif grouping.is_kernel_name(variable):
            status = "no: output layer" + ", guessed" * optimizer.output_guessed
        rows.append((layer, name, "", "", "", "", status, "1.00"))
    return rows


def _names_in(entry, group):
    """Names of a group's kernels, with the layers within that tell several groups apart."""
    names = [_names(other) for other in entry.groups]
    if len(set(names)) == len(names):
        return _names(group)
    start = f"{entry.layer.path}/"
    return " + ".join(grouping.path_of(k).removeprefix(start) for k in group.kernels)


def _names(group):
    return " + ".join(getattr(kernel, "name", "kernel") for kernel in group.kernels)


def _row(layer_name, group, factor, status, gain):
    numbers = [f"{value:.3f}" for value in (factor.mean(), factor.min(), factor.max())]
    return (
        layer_name,
        _names(group),
        str(factor.size),
        *numbers,
        status,
        gain_bound.readable(gain),
    )


def _row_without_nodes(layer, gain):
    status = "no: not a kernel"
    if grouping.has_unknown_weights(layer):
        status = "no: unknown weights, see register_grouping"
    names = " + ".join(weight.name for weight in layer.trainable_weights or layer.weights)
    return (layer.name, names, "", "", "", "", status, gain_bound.readable(gain))


def _format(table):
    widths = [max(len(row[i]) for row in table) for i in range(len(_COLUMNS))]
    right = {2, 3, 4, 5, 7}

    def line(row):
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ]
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(table[0]), rule, *(line(row) for row in table[1:])])
