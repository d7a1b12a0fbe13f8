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
from keras_grapes.layers.neuron import Neuron
from keras_grapes.layers.neurons import ALIF, LIF, LeakyIntegrator, Synaptic
from keras_grapes.layers.rate_coding import RateCoding, rate_code
from keras_grapes.layers.snu import SNU, SSNU, SNUCell, SSNUCell
from keras_grapes.layers.spiking import Spiking, SpikingCell
from keras_grapes.layers.surrogate import Surrogate, spike

__all__ = [
    "ALIF",
    "ConvSNU2D",
    "DeltaCoding",
    "ErrorModulation",
    "LIF",
    "LatencyCoding",
    "LeakyIntegrator",
    "Neuron",
    "PopulationCoding",
    "RateCoding",
    "SNU",
    "SNUCell",
    "SSNU",
    "SSNUCell",
    "Spiking",
    "SpikingCell",
    "Surrogate",
    "Synaptic",
    "delta_code",
    "latency_code",
    "plain_gradients",
    "population_code",
    "rate_code",
    "spike",
]
