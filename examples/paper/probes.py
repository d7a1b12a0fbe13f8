"""What else than accuracy is measured at the start of a run and after each epoch."""

import dataclasses

import keras
import numpy as np

import keras_grapes as kg
from keras_grapes.models import factors

# Of the histograms.
BINS = 20


class Modulation:
    """Mean, standard deviation, share at the lower bound and histogram of each layer's factors.

    They are the factors that act. Of plain training, which has none, they are those that GRAPES
    would use.

    Args:
        model: A compiled model of `networks.build`.
        settings: `Settings`.
    """

    def __init__(self, model, settings):
        self._groups = hidden_groups(model)
        self._bounds = settings.bounds

    def __call__(self):
        measured = []
        for nodes in self._groups:
            factor = nodes.factor().astype("float64").ravel()
            # Factors with a mean of 1 reach below the bounds.
            ends = min(self._bounds[0], factor.min()), max(self._bounds[1], factor.max())
            counts, edges = np.histogram(factor, BINS, ends)
            measured.append(
                {
                    "mean": float(factor.mean()),
                    "deviation": float(factor.std()),
                    "at_floor": _at_floor(nodes),
                    "histogram": counts.tolist(),
                    "edges": [float(edges[0]), float(edges[-1])],
                }
            )
        return measured


def hidden_groups(model):
    """Groups of nodes that are modulated, or that GRAPES would modulate in plain training."""
    groups = [g for g in factors.node_groups(model) if not g.entry.is_output_group(g.group)]
    return [g for g in groups if g.is_modulated] or groups


def _at_floor(nodes):
    """Share of the nodes whose factor is the lower bound, ahead of the controls' means."""
    plain = dataclasses.replace(nodes.modulation, granularity="node", unit_mean=False)
    values = keras.ops.convert_to_numpy(nodes.factor_by(plain))
    return float(np.mean(np.isclose(values, plain.bounds[0], rtol=1e-6, atol=0)))


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
