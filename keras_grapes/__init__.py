"""GRAPES for Keras: modulate the error of each node by the strength of its incoming weights."""

from keras_grapes import (
    analysis,
    callbacks,
    grouping,
    hardware,
    layers,
    models,
    optimizers,
    training,
)
from keras_grapes.grouping import register_grouping
from keras_grapes.layers import (
    ALIF,
    LIF,
    SNU,
    SSNU,
    ConvSNU2D,
    ErrorModulation,
    LeakyIntegrator,
    Neuron,
    RateCoding,
    SNUCell,
    Spiking,
    SpikingCell,
    SSNUCell,
    Surrogate,
    Synaptic,
    rate_code,
)
from keras_grapes.models import propagate, strip, summary
from keras_grapes.modulation import Modulation, modulation_factor, node_importance
from keras_grapes.optimizers import Grapes
from keras_grapes.saving import export_saved_model
from keras_grapes.training import (
    DirectFeedbackAlignment,
    FeedbackAlignment,
    IndirectFeedbackAlignment,
)
from keras_grapes.version import __version__

__all__ = [
    "ALIF",
    "ConvSNU2D",
    "DirectFeedbackAlignment",
    "ErrorModulation",
    "FeedbackAlignment",
    "Grapes",
    "IndirectFeedbackAlignment",
    "LIF",
    "LeakyIntegrator",
    "Modulation",
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
    "__version__",
    "analysis",
    "callbacks",
    "export_saved_model",
    "grouping",
    "hardware",
    "layers",
    "models",
    "modulation_factor",
    "node_importance",
    "optimizers",
    "propagate",
    "rate_code",
    "register_grouping",
    "strip",
    "summary",
    "training",
]
