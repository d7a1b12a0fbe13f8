"""Models whose error is modulated on its way back: from a plain model and back again."""

import warnings
from collections.abc import Callable, Sequence

import keras

from keras_grapes import graph, keras_hooks
from keras_grapes.groups import (
    error_modulated,
    has_unknown_weights,
    is_wrapper,
    nested_groups,
    tied_notes,
    weight_layers,
)
from keras_grapes.layers.error_modulation import ErrorModulation, check_output, check_wrappable
from keras_grapes.models import copying, gain_bound
from keras_grapes.modulation import Modulation

__all__ = ["propagate", "strip"]


def propagate(
    model: keras.Model,
    modulation: Modulation = Modulation(),
    select: Callable[[keras.layers.Layer], bool] | None = None,
    *,
    output_layers: Sequence[keras.layers.Layer | str] | None = None,
) -> keras.Model:
    """Returns a copy of a model that modulates the error of every hidden layer.

    Every hidden layer with a kernel is wrapped in a `keras_grapes.ErrorModulation`; weights and
    layer names are those of `model`, which stays as it is. The factor stands at the output of that
    layer, ahead of normalization layers behind it; to have it behind them, wrap the block of both
    in an `ErrorModulation` yourself. Layers without a kernel, output layers and layers that are
    wrapped already, also deeper inside, stay as they are. Layers whose nodes are not the channels
    of their output, such as an `LSTM`, layers of an unknown class, and nested models of a class
    that is more than the graph of its layers cannot be wrapped: a warning names them.

    Errors are modulated in training alone; see `keras_grapes.ErrorModulation` for derivatives that
    are taken for another purpose. A warning tells of a network so deep that its factors, which
    multiply from layer to layer, may overflow.

    The copy is the model: nested models and layers have their classes, layers that share weights
    share them in the copy, and frozen layers are frozen. Functions and classes of your own need
    not be registered. A compiled model comes back compiled, with the same losses and a fresh
    optimizer of the same config.

    Args:
        model: A built Sequential or Functional `keras.Model`; nested ones are opened.
        modulation: A `keras_grapes.Modulation`. Defaults to `Modulation()`, GRAPES.
        select: Callable that takes a hidden layer of `model` and returns whether to wrap it.
            Defaults to `None`, all of them.
        output_layers: List of layers of `model`, or of their names or paths, that compute its
            outputs and are not wrapped; an empty one where `model` is a part, such as an encoder,
            whose outputs are hidden nodes of the whole. Defaults to `None`, to find them.

    Returns:
        A new `keras.Model`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `model` is not built; if `output_layers` are not layers of it; if it is a
            subclassed model, or a Functional one with
            a `call` of its own, whose layers nobody can replace: wrap them where you create them,
            `self.hidden = ErrorModulation(keras.layers.Dense(256, activation="relu"))`; if it is of
            a class that Keras cannot make from a graph, as the models of KerasHub: pass
            `keras.Model(model.input, model.output)`; or if a layer cannot be copied exactly.

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
    chosen, refused = _choose(model, select, output_layers)
    if refused:
        warnings.warn(
            "`propagate` leaves these hidden layers as they are:\n" + "\n".join(refused),
            stacklevel=2,
        )
    if not chosen and not any(map(is_wrapper, graph.all_layers(model))):
        warnings.warn(
            f"`propagate` found no hidden layer to wrap in model '{model.name}': the copy trains "
            "as the model does.",
            stacklevel=2,
        )

    def replace(layer, copy):
        return ErrorModulation(copy, modulation) if id(layer) in chosen else copy

    copy = copying.copy_model(model, replace)
    gain_bound.warn_if_large(copy, stacklevel=2)
    return copy


def strip(model: keras.Model) -> keras.Model:
    """Returns a copy of a model without any `keras_grapes.ErrorModulation`.

    The copy is a plain Keras model with the same weights, layer names and predictions. It can be
    saved and served without this package.

    Args:
        model: A built Sequential or Functional `keras.Model`; nested ones are opened.

    Returns:
        A new `keras.Model`, compiled if `model` is, as `keras_grapes.propagate` does it.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: As `keras_grapes.propagate`, and if a layer makes an `ErrorModulation` by
            itself, so that nobody can take it out.

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
    return copying.copy_model(model, strip=True)


def _choose(model, select, output_layers):
    """Ids of the layers to wrap, and a line for each hidden layer that cannot be."""
    entries = weight_layers(model, output_layers)
    for note in tied_notes(entries):
        warnings.warn(note, stacklevel=3)
    output = {id(w) for entry in entries if entry.is_output for w in entry.layer.weights}
    parts = copying.parts(model)
    ids = {id(part) for part in parts}
    chosen, refused = set(), []
    for layer in parts:
        if graph.is_functional(layer):
            hidden = [e for e in weight_layers(layer) if e.groups]
            hidden = [e for e in hidden if not any(id(w) in output for w in e.layer.weights)]
            if hidden and (select is None or select(layer)):
                refused.append(_unopened(layer))
            continue
        # What it holds of other parts, as a tied decoder does, feeds the nodes of those.
        held = [inner for inner in graph.all_layers(layer) if id(inner) in ids]
        held = {id(weight) for inner in held for weight in inner.weights}
        groups = nested_groups(layer)
        groups = [g for g in groups if not any(id(v) in held for v in g.variables)]
        unknown = not groups and has_unknown_weights(layer)
        is_output = any(id(w) in output for w in layer.weights)
        if is_output or isinstance(layer, ErrorModulation) or not (groups or unknown):
            continue
        modulated = error_modulated(graph.all_layers(layer))
        rest = [g for g in groups if not set(g.keys) <= modulated]
        if modulated and not rest:
            continue
        if select is not None and not select(layer):
            continue
        if modulated:
            refused.append(
                f"- Layer '{layer.name}' of class {type(layer).__name__}, which holds layers in an "
                "`ErrorModulation` and others that are not: wrap these where it creates them."
            )
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
            for call in keras_hooks.recorded_calls(layer)[:1]:
                check_output(layer, call.outputs)
            chosen.add(id(layer))
        except ValueError as error:
            refused.append(f"- {error}")
    return chosen, refused


def _unopened(model):
    plain = ""
    if graph.has_graph(model):
        plain = "put the plain `keras.Model(layer.input, layer.output)` in its place, "
    return (
        f"- Model '{model.name}' of class {type(model).__name__}, which is copied as it is: its "
        f"class is not the graph of its layers alone. To have its layers wrapped, {plain}wrap them "
        "with `ErrorModulation` where they are created, or modulate the weights with "
        "`keras_grapes.Grapes(optimizer, model=model)`."
    )


def _check_copyable(model, name):
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`{name}` takes a `keras.Model`. Received: {model!r} of type {type(model).__name__}"
            f"{graph.keras_2_hint(model)}"
        )
    if not graph.has_graph(model):
        raise ValueError(
            f"`{name}` cannot replace the layers of the subclassed model '{model.name}' of type "
            f"{type(model).__name__}: it copies Sequential and Functional models whose `call` is "
            "Keras's own. In the code of your model, wrap the hidden layers where you create them, "
            'for example `self.hidden = keras_grapes.ErrorModulation(keras.layers.Dense(64, "relu"'
            "))`, or modulate its weights with `keras_grapes.Grapes(optimizer, model=model)`."
        )
    if not graph.can_be_rebuilt(model):
        raise ValueError(
            f"`{name}` cannot copy model '{model.name}' as a {type(model).__name__}: the copy "
            "would lose what that class adds to the graph of its layers. Pass the graph, "
            f"`keras_grapes.{name}(keras.Model(model.input, model.output))`, or modulate the "
            "weights of the model itself with `keras_grapes.Grapes(optimizer, model=model)`."
        )
    if not model.built:
        raise ValueError(
            f"`{name}` copies weights, and model '{model.name}' has none yet. Give it a "
            "`keras.Input`, call `model.build(input_shape)` or call it on data first."
        )
