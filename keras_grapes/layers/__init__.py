"""Layers."""

from keras_grapes.layers.error_modulation import ErrorModulation
from keras_grapes.layers.snu import SNU, SSNU, SNUCell, SSNUCell
from keras_grapes.layers.surrogate import Surrogate

__all__ = ["ErrorModulation", "SNU", "SNUCell", "SSNU", "SSNUCell", "Surrogate"]
