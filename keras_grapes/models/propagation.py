"""Models whose error is modulated on its way back: from a plain model and back again."""

import tempfile
import warnings

import keras

from keras_grapes import graph, grouping
from keras_grapes.layers.error_modulation import ErrorModulation, check_wrappable
from keras_grapes.modulation import Modulation


def propagate(model, modulation=None, select=None):
    """Returns a copy of a model that modulates the error of every hidden layer.

    Every hidden layer with a kernel is wrapped in a `keras_grapes.ErrorModulation`; weights and
    layer names are those of `model`, which stays as it is. The factor stands at the output of that
    layer, ahead of normalization layers behind it; to have it behind them, wrap the block of both
    in an `ErrorModulation` yourself. Layers without a kernel, output layers and layers that are
    wrapped already stay as they are. Layers whose nodes are not the channels of their output, such
    as an `LSTM`, and layers of an unknown class cannot be wrapped: a warning names them. A compiled
    model comes back compiled, with a fresh optimizer of the same config, as
    `keras.models.clone_model` does it.

    Args:
        model: A built Sequential or Functional `keras.Model`; nested ones are opened.
        modulation: A `keras_grapes.Modulation`. Defaults to `None`, GRAPES with its defaults.
        select: Callable that takes a hidden layer of `model` and returns whether to wrap it.
            Defaults to `None`, all of them.

    Returns:
        A new `keras.Model`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `model` is not built, or is a subclassed model, whose layers Keras cannot
            replace. Wrap its layers where you create them:
            `self.hidden = ErrorModulation(keras.layers.Dense(256, activation="relu"))`.

    References:
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2).

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, activation="relu"),
    ...     keras.layers.Dense(3, activation="softmax"),
    ... ])
    >>> [type(layer).__name__ for layer in kg.propagate(model).layers]
    ['ErrorModulation', 'Dense']
    """
    _check_copyable(model, "propagate")
    if select is not None and not callable(select):
        raise TypeError(
            "`select` must be a callable that takes a layer and returns a bool. Received: "
            f"select={select!r}"
        )
    modulation = Modulation.get(modulation)
    chosen, refused = _choose(model, select)
    if refused:
        warnings.warn(
            "`propagate` leaves these hidden layers as they are:\n" + "\n".join(refused),
            stacklevel=2,
        )
    if not chosen:
        warnings.warn(
            f"`propagate` found no hidden layer to wrap in model '{model.name}': the copy trains "
            "as the model does.",
            stacklevel=2,
        )

    def wrap(layer):
        copy = _copy_layer(layer)
        return ErrorModulation(copy, modulation) if id(layer) in chosen else copy

    return _clone(model, wrap)


def strip(model):
    """Returns a copy of a model without any `keras_grapes.ErrorModulation`.

    The copy is a plain Keras model with the same weights, layer names and predictions. It can be
    saved and served without this package.

    Args:
        model: A built Sequential or Functional `keras.Model`; nested ones are opened.

    Returns:
        A new `keras.Model`, compiled if `model` is, as `keras.models.clone_model` does it.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If `model` is not built, or is a subclassed model.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(3),
    ... ])
    >>> [type(layer).__name__ for layer in kg.strip(kg.propagate(model)).layers]
    ['Dense', 'Dense']
    """
    _check_copyable(model, "strip")
    return _clone(model, _copy_stripped)


def _choose(model, select):
    """Ids of the layers to wrap, and a line for each hidden layer that cannot be."""
    output = {
        id(weight)
        for entry in grouping.weight_layers(model)
        if entry.is_output
        for weight in entry.layer.weights
    }
    chosen, refused = set(), []
    for layer in graph.leaf_layers(model):
        groups = grouping.nested_groups(layer)
        unknown = not groups and grouping.has_unknown_weights(layer)
        is_output = any(id(w) in output for w in layer.weights)
        if is_output or isinstance(layer, ErrorModulation) or not (groups or unknown):
            continue
        if select is not None and not select(layer):
            continue
        if unknown:
            refused.append(
                f"- Layer '{layer.name}' of class {type(layer).__name__}, whose weights are not "
                "known to feed nodes: see `keras_grapes.register_grouping`; a grouping that "
                "returns an empty list says that they feed none."
            )
            continue
        try:
            check_wrappable(layer)
            chosen.add(id(layer))
        except ValueError as error:
            refused.append(f"- {error}")
    return chosen, refused


def _check_copyable(model, name):
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`{name}` takes a `keras.Model`. Received: {model!r} of type {type(model).__name__}"
        )
    if not graph.has_graph(model):
        raise ValueError(
            f"`{name}` cannot replace the layers of the subclassed model '{model.name}' of type "
            f"{type(model).__name__}: it copies Sequential and Functional models. In the code of "
            "your model, wrap the hidden layers where you create them, for example "
            '`self.hidden = keras_grapes.ErrorModulation(keras.layers.Dense(64, "relu"))`, or '
            "modulate its weights with `keras_grapes.Grapes(optimizer, model=model)`."
        )
    if not model.built:
        raise ValueError(
            f"`{name}` copies weights, and model '{model.name}' has none yet. Give it a "
            "`keras.Input`, call `model.build(input_shape)` or call it on data first."
        )


def _clone(model, clone_function):
    copies = {}

    def clone_and_remember(layer):
        if id(layer) not in copies:
            if graph.has_graph(layer):
                # Keras 3.9 opens a model in a model, but not one in that.
                copy = keras.models.clone_model(
                    layer, clone_function=clone_and_remember, recursive=True
                )
            else:
                copy = clone_function(layer)
            copies[id(layer)] = (layer, copy)
        return copies[id(layer)][1]

    clone = keras.models.clone_model(
        model,
        input_tensors=None if isinstance(model, keras.Sequential) else graph.new_inputs(model),
        clone_function=clone_and_remember,
        recursive=True,
    )
    if type(clone) is not type(model):
        raise ValueError(
            f"Keras cannot copy model '{model.name}' as a {type(model).__name__}: the copy would "
            f"be a plain {type(clone).__name__} and lose what that class adds. Wrap the hidden "
            "layers with `keras_grapes.ErrorModulation` where you create them."
        )
    # All variables: with the seeds of dropout too, the copy behaves as the model does.
    for layer, copy in copies.values():
        if not isinstance(layer, keras.layers.Layer):
            continue  # A plain operation such as `x + y`.
        for variable, copied in zip(layer.variables, copy.variables, strict=True):
            copied.assign(variable)
            # Of some layers (ConvLSTM2D) and of parts of a layer no config tells it.
            copied.trainable = variable.trainable
        for part, copied in zip(_preprocessing(layer), _preprocessing(copy), strict=True):
            _copy_adapted(part, copied)
    return clone


def _preprocessing(layer):
    kinds = (
        keras.layers.Normalization,
        keras.layers.IntegerLookup,
        keras.layers.StringLookup,
        keras.layers.TextVectorization,
    )
    return [part for part in [layer, *graph.all_layers(layer)] if isinstance(part, kinds)]


def _copy_adapted(layer, copy):
    """Copies what a preprocessing layer has learned by `adapt`, as Keras saves and loads it."""
    if isinstance(layer, keras.layers.Normalization):
        copy.finalize_state()
    elif layer.get_vocabulary(include_special_tokens=False):
        store = {}
        layer.save_own_variables(store)
        copy.load_own_variables(store)
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            copy.load_assets(folder)


def _copy_layer(layer):
    return type(layer).from_config(layer.get_config())


def _copy_stripped(layer):
    while isinstance(layer, ErrorModulation):
        layer = layer.layer
    if isinstance(layer, keras.Sequential):
        # A block of layers in a wrapper.
        return keras.models.clone_model(layer, clone_function=_copy_stripped, recursive=True)
    return type(layer).from_config(_strip_config(layer.get_config()))


def _strip_config(config):
    """Replaces serialized `ErrorModulation`s within a layer's config by what they wrap."""
    if isinstance(config, dict):
        if config.get("registered_name") == keras.saving.get_registered_name(ErrorModulation):
            return _strip_config(config["config"]["layer"])
        return {key: _strip_config(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_strip_config(value) for value in config)
    return config
