"""Which weights have their error modulated by a layer around them."""

import weakref

from keras_grapes import backend

__all__ = []


# `ErrorModulation`s that are alive, for optimizers that know no model.
_wrappers: weakref.WeakSet = weakref.WeakSet()


def remember_wrapper(wrapper):
    """Notes a layer that modulates the error of the layer in it, as `ErrorModulation` does."""
    _wrappers.add(wrapper)


def is_wrapper(layer):
    """Whether a layer modulates the error of the layer in it."""
    return layer in _wrappers


def error_modulated(layers=None):
    """Returns the `backend.variable_key`s of the weights whose error a wrapper modulates.

    Args:
        layers: List of layers, to look for wrappers among. Defaults to `None`, all that are alive.
    """
    wrappers = list(_wrappers) if layers is None else [w for w in layers if is_wrapper(w)]
    return {backend.variable_key(weight) for w in wrappers for weight in w.weights}
