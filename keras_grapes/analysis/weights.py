"""How the weights of a layer are distributed: their spread and the weight of their tails."""

import dataclasses

import keras
import numpy as np

from keras_grapes.analysis import figures
from keras_grapes.kernels import current
from keras_grapes.models import factors
from keras_grapes.types import Figure

__all__ = ["WeightStatistics", "plot", "statistics"]

# Standard deviations from the mean beyond which a weight is in the tail; of normally distributed
# weights 0.27 % are.
TAIL = 3


@dataclasses.dataclass(frozen=True)
class WeightStatistics:
    """Numbers of the weights of a layer.

    Args:
        count: Int, how many weights there are.
        mean: Float.
        variance: Float.
        kurtosis: Float, the excess kurtosis: -1.2 for uniform weights, as they are initialized, 0
            for normally distributed ones, above 0 for heavy tails. NaN if all weights are equal.
        tail: Float, the share of the weights more than 3 standard deviations from the mean: 0.0027
            for normally distributed ones.
    """

    count: int
    mean: float
    variance: float
    kurtosis: float
    tail: float


def statistics(model: keras.Model) -> dict[str, WeightStatistics]:
    """Returns the statistics of the kernel weights of every layer of a model.

    Args:
        model: A built `keras.Model`.

    Returns:
        Dict of the name of each layer to its `WeightStatistics`, in the order of the graph; where
        a layer has several groups of nodes, an entry for each, by the path of its kernel.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If it is not built, or has no kernels.

    References:
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), Supplementary
          Note 4: weights trained with GRAPES have a larger variance and heavier tails.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((64,)), keras.layers.Dense(256, name="hidden"), keras.layers.Dense(10),
    ... ])
    >>> kg.analysis.weights.statistics(model)["hidden"].count
    16384
    """
    return {name: _describe(values) for name, values in _weights(model).items()}


def _describe(values):
    deviation = np.abs(values - values.mean())
    spread = values.std()
    return WeightStatistics(
        count=int(values.size),
        mean=float(values.mean()),
        variance=float(values.var()),
        kurtosis=_kurtosis(values) if spread > 0 else float("nan"),
        tail=float(np.mean(deviation > TAIL * spread)) if spread > 0 else 0.0,
    )


def _kurtosis(values):
    standardized = (values - values.mean()) / values.std()
    return float(np.mean(standardized**4)) - 3.0


def plot(models: dict[str, keras.Model], bins: int = 101) -> Figure:
    """Draws the distributions of the kernel weights of models, a panel for each, side by side.

    Each layer is a line: the density of its weights on a logarithmic scale, which shows the tails.
    For normally distributed weights the line is a parabola.

    Args:
        models: Dict of names to built `keras.Model`s, such as
            `{"SGD": plain, "GRAPES": modulated}`.
        bins: Int, the number of bins over the range of all weights. Defaults to 101.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        TypeError: If `models` is not a dict of `keras.Model`s.
        ValueError: If it is empty, or a model is not built, has no kernels, or has weights that
            are not finite.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
    >>> figure = kg.analysis.weights.plot({"initial": model, "the same": model})
    """
    if not isinstance(models, dict):
        raise TypeError(
            "`models` must be a dict of names to models. Received: an object of type "
            f"{type(models).__name__}"
        )
    if not models:
        raise ValueError("`models` must have one model at least. Received: none")
    weights = {name: _weights(model) for name, model in models.items()}
    for name, layers in weights.items():
        for layer, values in layers.items():
            if not np.isfinite(values).all():
                raise ValueError(
                    f"The weights must be finite. Received: model '{name}' with nan or inf in "
                    f"layer '{layer}'. Its training has diverged."
                )
    largest = max(np.abs(values).max() for layers in weights.values() for values in layers.values())
    edges = (
        np.linspace(-largest, largest, bins + 1) if largest > 0 else np.linspace(-1, 1, bins + 1)
    )
    panels = figures.new_axes(1, len(models), size=(5, 4), sharex=True, sharey=True)[0]
    for axes, (name, layers) in zip(panels, weights.items()):
        for number, (layer, values) in enumerate(layers.items()):
            density, _ = np.histogram(values, edges, density=True)
            # Empty bins interrupt the line.
            density = np.where(density > 0, density, np.nan)
            axes.plot(
                (edges[1:] + edges[:-1]) / 2,
                density,
                label=layer,
                **figures.sequence_style(number, len(layers)),
            )
        axes.set_title(name)
        axes.set_xlabel("weight")
    panels[0].set_yscale("log")
    panels[0].set_ylabel("probability density")
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    return panels[0].figure


def _weights(model):
    """Maps the names of the layers to all their kernel weights."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"The weights are those of a `keras.Model`. Received: an object of type "
            f"{type(model).__name__}"
        )
    groups = factors.node_groups(model) if model.built else []
    if not groups:
        raise ValueError(
            f"Model '{model.name}' has no kernels" + ("." if model.built else " yet: build it.")
        )
    return {
        name: np.concatenate(
            [
                keras.ops.convert_to_numpy(current(kernel)).astype("float64").ravel()
                for kernel in nodes.group.kernels
            ]
        )
        for name, nodes in zip(factors.names(groups), groups)
    }
