"""A table of what is modulated in a model or by an optimizer, by how much, and why not."""

import typing

import keras
import numpy as np

from keras_grapes import backend, graph
from keras_grapes.groups import error_modulated, is_kernel_name, path_of
from keras_grapes.models import factors, gain_bound
from keras_grapes.models.factors import Action, Reason
from keras_grapes.optimizers.grapes import Grapes

__all__ = ["summary"]

_COLUMNS = ("layer", "weights", "units", "factor mean", "min", "max", "modulated", "error gain")
_REASONS = {
    Reason.PLAIN_TRAINING: "plain training",
    Reason.OUTPUT_LAYER: "output layer",
    Reason.INNER_NODES: "inner nodes of the layer",
    Reason.NODES_ARE_NO_CHANNELS: "nodes are not the channels of its output",
    Reason.NOT_WRAPPED: "not wrapped",
    Reason.WRAPPED: "in an ErrorModulation",
    Reason.FROZEN: "frozen",
    Reason.FROZEN_BUT_ADAPTERS: "frozen, only its LoRA adapters train",
    Reason.NOT_OF_THE_OPTIMIZER: "not known to the optimizer, pass model=",
    Reason.NO_KERNEL: "not a kernel",
    Reason.UNKNOWN_WEIGHTS: "unknown weights, see register_grouping",
}
_NOTES = {
    Action.ERROR: "yes: error - the factors multiply the error signal of the nodes.",
    Action.UPDATE: "yes: update - the factors multiply the updates of the weights of the nodes.",
}
_GAIN_NOTE = (
    "error gain - how much larger a layer's error is: the mean factors from it to the output, "
    "multiplied."
)
_BOUND_NOTE = "at most - paths join again: keras_grapes.error_gain measures the gain."
_UNKNOWN_NOTE = "unknown - errors take other paths than those of the graph."


class _Row(typing.NamedTuple):
    layer: str
    weights: str
    units: int | None
    factor: typing.Sequence
    status: str
    gain: float | None
    actions: frozenset = frozenset()

    def cells(self):
        units = "-" if self.units is None else str(self.units)
        numbers = ["-"] * 3
        if len(self.factor):
            numbers = [f"{of(self.factor):.3f}" for of in (np.mean, np.min, np.max)]
        gain = gain_bound.readable(self.gain)
        return self.layer, self.weights, units, *numbers, self.status, gain


def summary(model_or_optimizer: keras.Model | Grapes) -> str:
    """Returns a table of the modulation factors of a model's layers as they are now.

    A row for each layer with weights has the weights that feed its nodes, how many nodes there
    are, the mean, minimum and maximum of their factors, whether they are modulated or why not, and
    the *error gain*. `yes: error` stands for an `ErrorModulation` or a feedback rule, `yes: update`
    for the optimizer. Of a layer with several groups of nodes, as attention is, the numbers are
    those of all nodes that are modulated.

    The error gain of a layer is the product of the mean factors on the way from the layer, its own
    included, to the output, the largest where several paths lead there. A layer with an error gain
    of 100 learns as if from a learning rate 100 times as large: where plain training needs a rate
    of 0.01, start near 0.01 divided by the largest gain of the table, and raise it while training
    stays stable. Where paths join again, as in residual networks, the column says `at most`: such a
    bound may be far above, and `keras_grapes.error_gain` measures the gain. It is unknown where
    errors take other paths than those of the graph. A warning tells of a gain that may overflow.

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
    >>> [line.split()[0] for line in text.splitlines()[2:4]]
    ['hidden', 'out']
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
    return _format(rows, joins)


def _model_rows(model):
    if not model.built or not model.weights:
        raise ValueError(
            f"`summary` needs weights, and model '{model.name}' has none yet. Give it a "
            "`keras.Input`, call `model.build(input_shape)` or call it on data first."
        )
    gains, joins = gain_bound.bounds(model)
    groups_of = {}
    for nodes in factors.node_groups(model):
        groups_of.setdefault(id(nodes.entry.layer), []).append(nodes)

    rows = []
    for entry in factors.weight_layers(model):
        gain = gains.get(id(entry.layer), gains.get(None))
        groups = groups_of.get(id(entry.layer))
        rows.append(_layer_row(groups, gain) if groups else _row_without_nodes(entry.layer, gain))
    return rows, joins


def _layer_row(groups, gain):
    """The row of a layer: of its groups that are modulated, if any is."""
    entry = groups[0].entry
    acting = [nodes for nodes in groups if nodes.is_modulated]
    actions = frozenset(nodes.action for nodes in acting)
    if acting:
        status = _yes(*actions)
        if len(acting) < len(groups):
            status += f", {_count(acting)} of {_count(groups)} kernels"
    else:
        # That of the nodes at the output of the layer.
        status = _no(groups[-1].reason, guessed=entry.is_output and entry.output_guessed)
    shown = acting or groups
    status += _guess(any(nodes.group.guessed for nodes in shown))
    names = _names_in(entry, shown[0].group) if len(shown) == 1 else f"{_count(shown)} kernels"
    values = [nodes.factor().ravel() for nodes in acting]
    units = sum(int(np.prod(nodes.group.node_shape)) for nodes in shown)
    factor = np.concatenate(values or [[]])
    return _Row(entry.layer.name, names, units, factor, status, gain, actions)


def _row_without_nodes(layer, gain):
    names = " + ".join(weight.name for weight in layer.trainable_weights or layer.weights)
    return _Row(layer.name, names, None, [], _no(factors.why_without_nodes(layer)), gain)


def _optimizer_rows(optimizer):
    if not optimizer.built:
        raise ValueError(
            "`summary` needs variables, and the optimizer has none yet. Call "
            "`optimizer.build(model.trainable_variables)`, train a step, or pass the model."
        )
    rows, grouped = [], set()
    elsewhere = error_modulated()
    for group in optimizer.groups:
        grouped.update(id(kernel) for kernel in group.kernels)
        layer = path_of(group.kernels[0]).rpartition("/")[0]
        status = _yes(Action.UPDATE) + _guess(group.guessed)
        factor = keras.ops.convert_to_numpy(group.factor(optimizer.modulation))
        actions = frozenset([Action.UPDATE])
        factor = factor.ravel()
        rows.append(_Row(layer, _names(group), factor.size, factor, status, 1.0, actions))
    for variable in optimizer.trainable_variables:
        if id(variable) in grouped:
            continue
        layer, _, name = path_of(variable).rpartition("/")
        status = _no(Reason.NO_KERNEL)
        if backend.variable_key(variable) in elsewhere:
            status = _no(Reason.WRAPPED)
        elif is_kernel_name(variable):
            status = _no(Reason.OUTPUT_LAYER, guessed=optimizer.output_guessed)
        rows.append(_Row(layer, name, None, [], status, 1.0))
    return rows


def _yes(*actions):
    return "yes: " + " and ".join(sorted(action.value for action in actions))


def _no(reason, guessed=False):
    guessed = guessed and reason is Reason.OUTPUT_LAYER
    return f"no: {_REASONS[reason]}" + (", guessed" if guessed else "")


def _guess(guessed):
    return " (nodes guessed: last axis)" if guessed else ""


def _count(groups):
    return sum(len(nodes.group.kernels) for nodes in groups)


def _names_in(entry, group):
    """Names of a group's kernels, with the layers within that tell several groups apart."""
    names = [_names(other) for other in entry.groups]
    if len(set(names)) == len(names):
        return _names(group)
    start = f"{entry.layer.path}/"
    return " + ".join(path_of(k).removeprefix(start) for k in group.kernels)


def _names(group):
    return " + ".join(getattr(kernel, "name", "kernel") for kernel in group.kernels)


def _format(rows, joins):
    """The text: a table and notes that say what its words mean."""
    columns = (*_COLUMNS[:-1], "error gain, at most") if joins else _COLUMNS
    table = [columns, *(row.cells() for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    right = {2, 3, 4, 5, 7}

    def line(row):
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ]
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    actions = frozenset().union(*(row.actions for row in rows))
    notes = [note for action, note in _NOTES.items() if action in actions]
    notes.append(_GAIN_NOTE)
    if joins:
        notes.append(_BOUND_NOTE)
    if any(row.gain is None for row in rows):
        notes.append(_UNKNOWN_NOTE)
    return "\n".join([line(table[0]), rule, *map(line, table[1:]), "", *notes])
