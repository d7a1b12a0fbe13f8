"""Callbacks. They observe: training is the same without any of them."""

from keras_grapes.callbacks.alignment_angle import AlignmentAngle

__all__ = ["AlignmentAngle"]
