"""Which layers own weights, and whether these mix nodes."""

import keras
from keras import layers

from keras_grapes import graph
from keras_grapes.groups.einsum import Equation
from keras_grapes.groups.registry import groupings, layer_groups

__all__ = []


def weight_owners(layer):
    """Yields the layer and its sublayers that own weights.

    A class with a registered grouping speaks for its sublayers too.
    """
    if not isinstance(layer, keras.layers.Layer):
        return
    if has_own_weights(layer):
        yield layer
    for part in parts(layer):
        yield from weight_owners(part)


def parts(layer):
    """The layers within a layer, unless its class speaks for them."""
    return [] if groupings.find(layer) else graph.sublayers(layer)


def has_own_weights(layer):
    """Whether a layer has weights that are not those of a layer within."""
    nested = {id(weight) for part in parts(layer) for weight in part.weights}
    return any(id(weight) not in nested for weight in layer.weights)


# Their weights act on each node by itself, whatever axes they have.
ELEMENTWISE = (
    layers.BatchNormalization,
    layers.GroupNormalization,
    layers.LayerNormalization,
    layers.Normalization,
    layers.PReLU,
    layers.RMSNormalization,
)


def mixing(layer):
    """The layer and its sublayers whose own weights mix nodes, as far as can be told."""
    return [owner for owner in weight_owners(layer) if layer_groups(owner) or _mixes_nodes(owner)]


def mixing_by_class(layer):
    """Those of `mixing` whose class is known."""
    return [owner for owner in mixing(layer) if not is_unknown(owner)]


def is_unknown(layer):
    """Whether it is not known which nodes a layer's matrices of weights feed, or whether any."""
    return has_unknown_weights(layer) and not layer_groups(layer)


def has_unknown_weights(layer):
    """Whether a layer has matrices of weights and its class is neither Keras's nor registered."""
    is_known = type(layer).__module__.split(".")[0] == "keras" or groupings.find(layer)
    return _has_matrices(layer) and not is_known


def _mixes_nodes(layer):
    if isinstance(layer, layers.EinsumDense):
        return bool(Equation.of(layer).incoming_axes)
    if not _has_matrices(layer) or isinstance(layer, ELEMENTWISE):
        return False
    # Who registers a class of his own without nodes says that it does not. Of Keras's classes
    # without nodes an `Embedding` is looked up in, or multiplied by where the output is tied to it.
    registered = groupings.base(layer)
    return registered is None or registered.__module__.split(".")[0] == "keras"


def _has_matrices(layer):
    return any(len(weight.shape) >= 2 for weight in layer.weights)
