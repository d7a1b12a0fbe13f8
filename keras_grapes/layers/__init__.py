"""Layers."""

from keras_grapes.layers.conv_snu import ConvSNU2D
from keras_grapes.layers.error_modulation import ErrorModulation
from keras_grapes.layers.neuron import Neuron
from keras_grapes.layers.neurons import ALIF, LIF, LeakyIntegrator, Synaptic
from keras_grapes.layers.rate_coding import RateCoding, rate_code
from keras_grapes.layers.snu import SNU, SSNU, SNUCell, SSNUCell
from keras_grapes.layers.spiking import Spiking, SpikingCell
from keras_grapes.layers.surrogate import Surrogate, spike

__all__ = [
    "ALIF",
    "ConvSNU2D",
    "ErrorModulation",
    "LIF",
    "LeakyIntegrator",
    "Neuron",
    "RateCoding",
    "SNU",
    "SNUCell",
    "SSNU",
    "SSNUCell",
    "Spiking",
    "SpikingCell",
    "Surrogate",
    "Synaptic",
    "rate_code",
    "spike",
]
