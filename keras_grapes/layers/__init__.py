"""Layers."""

from keras_grapes.layers.conv_snu import ConvSNU2D
from keras_grapes.layers.error_modulation import ErrorModulation, plain_gradients
from keras_grapes.layers.rate_coding import RateCoding, rate_code
from keras_grapes.layers.snu import SNU, SSNU, SNUCell, SSNUCell
from keras_grapes.layers.surrogate import Surrogate

__all__ = [
    "ConvSNU2D",
    "ErrorModulation",
    "RateCoding",
    "SNU",
    "SNUCell",
    "SSNU",
    "SSNUCell",
    "Surrogate",
    "plain_gradients",
    "rate_code",
]
