"""Measures of learning: how fast, how lastingly, and what it does to the weights."""

from keras_grapes.analysis import continual, weights
from keras_grapes.analysis.continual import (
    average_accuracy,
    backward_transfer,
    forgetting,
    forward_transfer,
    future_accuracy,
    past_accuracy,
)
from keras_grapes.analysis.learning_curve import (
    PlateauFit,
    fit_plateau,
    plateau,
    plot_learning_curves,
)

__all__ = [
    "PlateauFit",
    "average_accuracy",
    "backward_transfer",
    "continual",
    "fit_plateau",
    "forgetting",
    "forward_transfer",
    "future_accuracy",
    "past_accuracy",
    "plateau",
    "plot_learning_curves",
    "weights",
]
