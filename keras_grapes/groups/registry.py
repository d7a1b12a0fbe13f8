"""The groups of a layer, by its class; `register_grouping` tells those of another class."""

from collections.abc import Callable

import keras

from keras_grapes.groups.group import Group
from keras_grapes.layer_registry import LayerRegistry

__all__ = ["register_grouping"]

groupings = LayerRegistry("register_grouping")


def register_grouping(layer_class: type) -> Callable:
    """Tells which weights of a custom layer feed which nodes.

    The decorated function gets a built layer of the class, or of a subclass, and returns its
    `keras_grapes.grouping.Group`, or a list of them in the order of the forward pass. An empty list
    says that the layer has no nodes: its weights act on each value by itself, so that behind the
    logits the layer before it is the output layer. Registering a class again replaces its function.

    Args:
        layer_class: A subclass of `keras.layers.Layer`.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        TypeError: If `layer_class` is not a layer class.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> class Transposed(keras.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.w = self.add_weight(shape=(8, input_shape[-1]))
    ...     def call(self, x):
    ...         return keras.ops.matmul(x, keras.ops.transpose(self.w))
    >>> @kg.register_grouping(Transposed)
    ... def transposed_grouping(layer):
    ...     return kg.grouping.Group(layer.w, incoming_axes=1)
    >>> kg.ErrorModulation(Transposed())(keras.ops.ones((2, 3))).shape
    TensorShape([2, 8])
    """
    return groupings.register(layer_class)


def is_registered(layer):
    """Whether the groups of a layer are told by its class."""
    return groupings.find(layer) is not None


def layer_groups(layer):
    """Returns the groups of one layer, its sublayers left out unless its class registered them.

    A layer of an unknown class that owns a `kernel` is grouped by the kernel's last axis, and its
    group says that this is a guess.

    Args:
        layer: A built `keras.layers.Layer`.

    Returns:
        List of `Group`, empty for a layer without nodes.

    Raises:
        TypeError: If a registered function returns something else than groups.
    """
    function = groupings.find(layer)
    if function is not None:
        groups = function(layer)
        groups = [groups] if isinstance(groups, Group) else groups
        if not (isinstance(groups, (list, tuple)) and all(isinstance(g, Group) for g in groups)):
            raise TypeError(
                f"The grouping registered for `{type(layer).__name__}` must return a "
                f"`keras_grapes.grouping.Group` or a list of them. Received: {groups!r}"
            )
        return list(groups)
    kernels = [getattr(layer, name, None) for name in ("kernel", "recurrent_kernel")]
    kernels = [k for k in kernels if isinstance(k, keras.Variable) and len(k.shape) >= 2]
    kernels = [k for k in kernels if k.shape[-1] == kernels[0].shape[-1]]
    return [Group(kernels, guessed=True)] if kernels else []
