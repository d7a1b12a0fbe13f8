"""Callbacks. They observe: training is right without any of them."""

from keras_grapes.callbacks.alignment_angle import AlignmentAngle
from keras_grapes.callbacks.firing_rate import FiringRate

__all__ = ["AlignmentAngle", "FiringRate"]
