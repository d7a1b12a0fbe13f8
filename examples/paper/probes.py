"""What else than accuracy is measured at the start of a run and after each epoch."""

import dataclasses

import keras
import numpy as np

import keras_grapes as kg
from examples.paper import networks

# Of the histograms, over the interval of the factors.
BINS = 20


class Modulation:
    """Mean, standard deviation, share at the lower bound and histogram of each layer's factors.

    Of a plain network they are the factors that GRAPES would use.

    Args:
        model: A model of `networks.build`.
        settings: `Settings`.
    """

    def __init__(self, model, settings):
        self._kernels = [w for w in model.trainable_variables if w.name == "kernel"][:-1]
        self._modulation = networks.modulation_of(settings) or networks.GRAPES
        self._bounds = settings.bounds

    def __call__(self):
        measured = []
        for kernel in self._kernels:
            factor = keras.ops.convert_to_numpy(self._modulation(kernel)).astype("float64")
            counts, _ = np.histogram(factor, BINS, self._bounds)
            measured.append(
                {
                    "mean": float(factor.mean()),
                    "deviation": float(factor.std()),
                    "at_floor": float(np.mean(factor <= self._bounds[0])),
                    "histogram": counts.tolist(),
                }
            )
        return measured


class Weights:
    """`kg.analysis.weights.WeightStatistics` of each layer.

    Args:
        model: A model of `networks.build`.
        settings: `Settings`.
    """

    def __init__(self, model, settings):
        self._model = model

    def __call__(self):
        layers = kg.analysis.weights.statistics(self._model).values()
        return [
            {
                name: value if np.isfinite(value) else None
                for name, value in dataclasses.asdict(layer).items()
            }
            for layer in layers
        ]
