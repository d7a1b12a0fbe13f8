"""Layers."""

from keras_grapes.layers.conv_snu import ConvSNU2D
from keras_grapes.layers.encodings import (
    DeltaCoding,
    LatencyCoding,
    PopulationCoding,
    delta_code,
    latency_code,
    population_code,
)
from keras_grapes.layers.error_modulation import ErrorModulation, plain_gradients
from keras_grapes.layers.rate_coding import RateCoding, rate_code
from keras_grapes.layers.snu import SNU, SSNU, SNUCell, SSNUCell
from keras_grapes.layers.surrogate import Surrogate

__all__ = [
    "ConvSNU2D",
    "DeltaCoding",
    "ErrorModulation",
    "LatencyCoding",
    "PopulationCoding",
    "RateCoding",
    "SNU",
    "SNUCell",
    "SSNU",
    "SSNUCell",
    "Surrogate",
    "delta_code",
    "latency_code",
    "plain_gradients",
    "population_code",
    "rate_code",
]
