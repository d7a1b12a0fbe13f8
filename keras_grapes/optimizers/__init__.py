"""Optimizers."""

from keras_grapes.optimizers.grapes import Grapes

__all__ = ["Grapes"]
