"""Measures of learning: how fast, how lastingly, and what it does to the weights."""

from keras_grapes.analysis import continual, weights
from keras_grapes.analysis.learning_curve import (
    PlateauFit,
    fit_plateau,
    plateau,
    plot_learning_curves,
)

__all__ = [
    "PlateauFit",
    "continual",
    "fit_plateau",
    "plateau",
    "plot_learning_curves",
    "weights",
]
