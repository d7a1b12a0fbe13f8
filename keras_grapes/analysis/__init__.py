"""Measures of learning, and of what spiking units do."""

from keras_grapes.analysis import continual, weights
from keras_grapes.analysis.continual import (
    average_accuracy,
    backward_transfer,
    forgetting,
    forward_transfer,
    future_accuracy,
    past_accuracy,
)
from keras_grapes.analysis.energy import (
    LayerOperations,
    SynapticOperations,
    synaptic_operations,
)
from keras_grapes.analysis.learning_curve import (
    PlateauFit,
    fit_plateau,
    plateau,
    plot_learning_curves,
)
from keras_grapes.analysis.recording import Recording, record
from keras_grapes.analysis.spikes import layer_rates, membrane_traces, raster

__all__ = [
    "LayerOperations",
    "PlateauFit",
    "Recording",
    "SynapticOperations",
    "average_accuracy",
    "backward_transfer",
    "continual",
    "fit_plateau",
    "forgetting",
    "forward_transfer",
    "future_accuracy",
    "layer_rates",
    "membrane_traces",
    "past_accuracy",
    "plateau",
    "plot_learning_curves",
    "raster",
    "record",
    "synaptic_operations",
    "weights",
]
