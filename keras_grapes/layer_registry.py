"""What is told of layers by their class."""

import keras

__all__ = []


class LayerRegistry:
    """Functions that tell something of a layer, by its class.

    A class without a function has that of its nearest base class.

    Args:
        decorator: String, the name of the public decorator that registers functions.

    Attributes:
        functions: Dict of layer classes to their functions.
    """

    def __init__(self, decorator):
        self._decorator = decorator
        self.functions = {}

    def register(self, layer_class):
        """Returns a decorator that registers a function, in place of an earlier one.

        Raises:
            TypeError: If `layer_class` is not a layer class.
        """
        if not (isinstance(layer_class, type) and issubclass(layer_class, keras.layers.Layer)):
            raise TypeError(
                f"`{self._decorator}` takes a subclass of `keras.layers.Layer`, as in "
                f"`@{self._decorator}(MyLayer)`. Received: {layer_class!r}"
            )

        def decorate(function):
            self.functions[layer_class] = function
            return function

        return decorate

    def base(self, layer):
        """Returns the class whose function serves for a layer, or `None`."""
        return next((base for base in type(layer).__mro__ if base in self.functions), None)

    def find(self, layer):
        """Returns the function for a layer, or `None`."""
        return self.functions.get(self.base(layer))
