"""GRAPES for Keras: modulate the error of each node by the strength of its incoming weights."""

from keras_grapes import (
    analysis,
    callbacks,
    grouping,
    hardware,
    layers,
    linear,
    models,
    optimizers,
    training,
    wiring,
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
    rate_code,
)
from keras_grapes.linear import LinearMap, register_linear_map
from keras_grapes.models import propagate, strip, summary
from keras_grapes.modulation import Modulation, modulation_factor, node_importance
from keras_grapes.optimizers import Grapes
from keras_grapes.saving import export_saved_model
from keras_grapes.training import (
    DirectFeedbackAlignment,
    DirectRandomTargetProjection,
    FeedbackAlignment,
    FeedbackModel,
    IndirectFeedbackAlignment,
    SignConcordantFeedback,
)
from keras_grapes.version import __version__

__all__ = [
    "ConvSNU2D",
    "DirectFeedbackAlignment",
    "DirectRandomTargetProjection",
    "ErrorModulation",
    "FeedbackAlignment",
    "FeedbackModel",
    "Grapes",
    "IndirectFeedbackAlignment",
    "LinearMap",
    "Modulation",
    "RateCoding",
    "SNU",
    "SNUCell",
    "SSNU",
    "SSNUCell",
    "SignConcordantFeedback",
    "Surrogate",
    "__version__",
    "analysis",
    "callbacks",
    "export_saved_model",
    "grouping",
    "hardware",
    "layers",
    "linear",
    "models",
    "modulation_factor",
    "node_importance",
    "optimizers",
    "propagate",
    "rate_code",
    "register_grouping",
    "register_linear_map",
    "strip",
    "summary",
    "training",
    "wiring",
]
