"""Models: from plain to modulated and back, and what is modulated in them."""

from keras_grapes.models.measured_gain import ErrorGain, error_gain
from keras_grapes.models.propagation import propagate, strip
from keras_grapes.models.table import summary

__all__ = ["ErrorGain", "error_gain", "propagate", "strip", "summary"]
