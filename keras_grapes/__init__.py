"""GRAPES for Keras: modulate the error of each node by the strength of its incoming weights."""

from keras_grapes import (
    analysis,
    callbacks,
    comparison,
    grouping,
    hardware,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    regularizers,
    training,
)
from keras_grapes.comparison import compare
from keras_grapes.grouping import register_grouping
from keras_grapes.layers import (
    SNU,
    SSNU,
    ConvSNU2D,
    DeltaCoding,
    ErrorModulation,
    LatencyCoding,
    PopulationCoding,
    RateCoding,
    SNUCell,
    SSNUCell,
    Surrogate,
    delta_code,
    latency_code,
    plain_gradients,
    population_code,
    rate_code,
)
from keras_grapes.models import error_gain, propagate, strip, summary
from keras_grapes.modulation import Modulation, modulation_factor, node_importance
from keras_grapes.nir import export_nir, import_nir
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
    "DeltaCoding",
    "DirectFeedbackAlignment",
    "ErrorModulation",
    "FeedbackAlignment",
    "Grapes",
    "IndirectFeedbackAlignment",
    "LatencyCoding",
    "Modulation",
    "PopulationCoding",
    "RateCoding",
    "SNU",
    "SNUCell",
    "SSNU",
    "SSNUCell",
    "Surrogate",
    "__version__",
    "analysis",
    "callbacks",
    "compare",
    "comparison",
    "delta_code",
    "error_gain",
    "export_nir",
    "export_saved_model",
    "grouping",
    "hardware",
    "import_nir",
    "latency_code",
    "layers",
    "losses",
    "metrics",
    "models",
    "modulation_factor",
    "node_importance",
    "optimizers",
    "plain_gradients",
    "population_code",
    "propagate",
    "rate_code",
    "register_grouping",
    "regularizers",
    "strip",
    "summary",
    "training",
]
