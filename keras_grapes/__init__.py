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
    SNU,
    SSNU,
    ConvSNU2D,
    ErrorModulation,
    RateCoding,
    SNUCell,
    SSNUCell,
    Surrogate,
    plain_gradients,
    rate_code,
)
from keras_grapes.models import error_gain, propagate, strip, summary
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
    "ConvSNU2D",
    "DirectFeedbackAlignment",
    "ErrorModulation",
    "FeedbackAlignment",
    "Grapes",
    "IndirectFeedbackAlignment",
    "Modulation",
    "RateCoding",
    "SNU",
    "SNUCell",
    "SSNU",
    "SSNUCell",
    "Surrogate",
    "__version__",
    "analysis",
    "callbacks",
    "error_gain",
    "export_saved_model",
    "grouping",
    "hardware",
    "layers",
    "models",
    "modulation_factor",
    "node_importance",
    "optimizers",
    "plain_gradients",
    "propagate",
    "rate_code",
    "register_grouping",
    "strip",
    "summary",
    "training",
]
