"""Layers."""

from keras_grapes.layers.error_modulation import ErrorModulation

__all__ = ["ErrorModulation"]
