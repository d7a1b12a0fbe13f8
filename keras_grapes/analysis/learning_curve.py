"""The plateau equation: how high and how fast a network learns."""

import typing

import numpy as np

from keras_grapes.analysis import figures
from keras_grapes.checks import check_positive_int, check_share
from keras_grapes.types import Array, Axes, Figure

__all__ = ["PlateauFit", "fit_plateau", "plateau", "plot_learning_curves"]

# The paper fits the first epochs only.
EPOCHS = 100

MAX_ACCURACY = ("fit", "observed")

# Times the number of epochs: slower than that, a curve does not tell its plateau.
_SLOWEST = 1000


class _Plateau(typing.NamedTuple):
    max_accuracy: float
    slowness: float


class PlateauFit(_Plateau):
    """Result of `keras_grapes.analysis.fit_plateau`: unpacks into `max_accuracy, slowness`.

    Args:
        max_accuracy: Float, the accuracy of the plateau.
        slowness: Float, in epochs: after so many of them the accuracy is half of `max_accuracy`.
        max_accuracy_error: Float, the standard error of `max_accuracy`; 0 where it is not fitted.
        slowness_error: Float, the standard error of `slowness`.
        epochs: Int, the number of epochs that the fit used.

    Example:

    >>> import keras_grapes as kg
    >>> fit = kg.analysis.fit_plateau([0.45, 0.6, 0.675, 0.72])
    >>> max_accuracy, slowness = fit
    >>> fit.epochs
    4
    """

    max_accuracy_error: float
    slowness_error: float
    epochs: int

    def __new__(cls, max_accuracy, slowness, max_accuracy_error, slowness_error, epochs):
        fit = super().__new__(cls, max_accuracy, slowness)
        fit.max_accuracy_error = max_accuracy_error
        fit.slowness_error = slowness_error
        fit.epochs = epochs
        return fit

    def __getnewargs__(self):
        return (*self, self.max_accuracy_error, self.slowness_error, self.epochs)

    def __repr__(self):
        return (
            f"PlateauFit(max_accuracy={self.max_accuracy:.4g} +- {self.max_accuracy_error:.2g}, "
            f"slowness={self.slowness:.4g} +- {self.slowness_error:.2g}, epochs={self.epochs})"
        )


def plateau(epochs: Array, max_accuracy: float, slowness: float) -> Array:
    """Evaluates the plateau equation (Eq. 5): `max_accuracy * epochs / (slowness + epochs)`.

    Args:
        epochs: Float or array of floats, at least 0; 1 is the end of the first epoch.
        max_accuracy: Float, the accuracy of the plateau.
        slowness: Float, at least 0, the number of epochs to half of `max_accuracy`.

    Returns:
        Float or array, shaped as `epochs`; 0 at epoch 0.

    Example:

    >>> import keras_grapes as kg
    >>> float(kg.analysis.plateau(2, max_accuracy=0.9, slowness=2.0))
    0.45
    """
    epochs = np.asarray(epochs, "float64")
    shape = np.divide(epochs, slowness + epochs, out=np.zeros_like(epochs), where=epochs > 0)
    return max_accuracy * shape


def fit_plateau(
    accuracy: Array, chance: float | None = None, max_accuracy: str = "fit", epochs: int = EPOCHS
) -> PlateauFit:
    """Fits the plateau equation to a learning curve and returns its maximum and its slowness.

    `accuracy = max_accuracy * epochs / (slowness + epochs)` (Eq. 5), by nonlinear least squares
    over the first 100 epochs, with `slowness >= 0`. The slowness is the number of epochs to half of
    the maximum. It is far below 1 if the network is nearly trained after one epoch. Read it
    together with the maximum: a network that never leaves chance is on its plateau from the start.

    A fitted maximum may be above 1 if the curve ends long before its plateau; its standard error is
    then large. An observed maximum cannot.

    With `chance` and `max_accuracy="observed"` the fit is that of the first author's published
    notebook: chance is the accuracy at epoch 0, and the maximum is the largest accuracy seen. The
    equation is 0 at epoch 0 for all parameters, so that this point does not change the slowness. It
    counts as one of the `epochs` points, and towards the largest accuracy.

    Args:
        accuracy: List or array of the accuracies after every epoch, the first epoch's first,
            between 0 and 1, such as `history.history["val_accuracy"]` of what Keras's `fit`
            returns.
        chance: Float, the accuracy before the first epoch, such as 0.1 for ten classes. Defaults
            to `None`, no point at epoch 0.
        max_accuracy: String, `"fit"` to fit the maximum too, or `"observed"` to take the largest
            accuracy of the curve. Defaults to `"fit"`.
        epochs: Int, how many points of the curve to use at most. Defaults to 100, as in the
            paper. Stay below a decay of the learning rate.

    Returns:
        A `PlateauFit`, which unpacks into `max_accuracy, slowness`, with their standard errors as
        further attributes.

    Raises:
        ValueError: If the curve has fewer than 3 epochs (2 with `"observed"`), values that are not
            between 0 and 1 (such as percent), or values that are not finite; if it is constant, so
            that it has no slowness; or if it is straight, so that its plateau is unknown.

    References:
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), Eq. 5.

    Example:

    >>> import keras_grapes as kg
    >>> max_accuracy, slowness = kg.analysis.fit_plateau([0.45, 0.6, 0.675, 0.72])
    >>> print(f"{max_accuracy:.3f} {slowness:.3f}")
    0.900 1.000
    """
    if max_accuracy not in MAX_ACCURACY:
        raise ValueError(
            f"`max_accuracy` must be one of {MAX_ACCURACY}. Received: max_accuracy={max_accuracy!r}"
        )
    check_positive_int("epochs", epochs)
    curve = _check_curve(accuracy)
    if chance is not None:
        check_share("chance", chance)
        curve = np.concatenate([[chance], curve])
    first = 1 if chance is None else 0
    curve = curve[:epochs]
    largest = curve.max(initial=0)
    curve = curve[1 - first :]
    observed = max_accuracy == "observed"
    needed = 2 if observed else 3
    if len(curve) < needed:
        raise ValueError(
            f"`fit_plateau` needs {needed} epochs at least with max_accuracy={max_accuracy!r}. "
            f"Received: {len(curve)}"
        )
    if np.ptp(curve) == 0:
        raise ValueError(
            f"`accuracy` must not be constant: it is {curve[0]:g} in each of the {len(curve)} "
            "epochs, and has no slowness. A network that stays at chance does not learn; one that "
            "starts on its plateau needs a measure finer than an epoch."
        )
    fitted, errors = _least_squares(curve, largest if observed else None)
    if fitted[1] > 0.9 * _SLOWEST * len(curve):
        raise ValueError(
            f"`accuracy` does not bend towards a plateau in its {len(curve)} epochs. Train for "
            'longer, or take the largest accuracy for the maximum: max_accuracy="observed".'
        )
    return PlateauFit(*map(float, fitted), *map(float, errors), len(curve))


def _least_squares(curve, maximum):
    """Returns `(max_accuracy, slowness)` and their standard errors; a given maximum is kept."""
    # SciPy takes longer to import than all else here.
    from scipy.optimize import curve_fit

    epochs = np.arange(1.0, len(curve) + 1)
    # The start: of a grid of slownesses, each with its best maximum, the one that fits best.
    slowness = np.geomspace(1e-3, _SLOWEST * len(curve), 200)[:, None]
    shapes = epochs / (slowness + epochs)
    heights = shapes @ curve / np.sum(shapes**2, axis=1) if maximum is None else maximum
    heights = np.broadcast_to(heights, len(shapes))
    best = np.argmin(np.sum((heights[:, None] * shapes - curve) ** 2, axis=1))
    start = [heights[best], slowness[best, 0]]

    def derivatives(epochs, height, slowness):
        shape = epochs / (slowness + epochs)
        return np.stack([shape, -height * shape / (slowness + epochs)], axis=1)

    tight = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "max_nfev": 1000}
    if maximum is None:
        fitted, covariance = curve_fit(
            plateau,
            epochs,
            curve,
            start,
            bounds=(0, [np.inf, _SLOWEST * len(curve)]),
            jac=derivatives,
            x_scale="jac",
            **tight,
        )
        return fitted, np.sqrt(np.diag(covariance))
    fitted, covariance = curve_fit(
        lambda epochs, slowness: plateau(epochs, maximum, slowness),
        epochs,
        curve,
        start[1:],
        bounds=(0, _SLOWEST * len(curve)),
        jac=lambda epochs, slowness: derivatives(epochs, maximum, slowness)[:, 1:],
        **tight,
    )
    return [maximum, *fitted], [0.0, *np.sqrt(np.diag(covariance))]


def _check_curve(accuracy):
    try:
        curve = np.asarray(accuracy, "float64")
    except (TypeError, ValueError):
        curve = np.empty(())
    if curve.ndim != 1:
        raise ValueError(
            "`accuracy` must hold numbers in one dimension, one an epoch. Received: accuracy="
            f"{accuracy!r}"
        )
    if not np.isfinite(curve).all():
        epoch = int(np.argmin(np.isfinite(curve))) + 1
        raise ValueError(
            f"`accuracy` must be finite. Received: {curve[epoch - 1]} at epoch {epoch}. Fit the "
            "epochs before it."
        )
    if ((curve < 0) | (curve > 1)).any():
        worst = curve[np.argmax(np.abs(curve - 0.5))]
        raise ValueError(
            f"`accuracy` must be between 0 and 1. Received: {worst}. Divide percent by 100."
        )
    return curve


def plot_learning_curves(
    curves: dict[str, Array],
    chance: float | None = None,
    max_accuracy: str = "fit",
    epochs: int = EPOCHS,
    axes: Axes | None = None,
) -> Figure:
    """Draws learning curves and the plateau equations fitted to them.

    Args:
        curves: Dict of a name to the accuracies after every epoch, as `fit_plateau` takes them.
        chance: As in `fit_plateau`. Defaults to `None`.
        max_accuracy: As in `fit_plateau`. Defaults to `"fit"`.
        epochs: As in `fit_plateau`. Defaults to 100.
        axes: `matplotlib.axes.Axes` to draw in. Defaults to `None`, a new figure.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: As `fit_plateau`, or if there is no curve.

    Example:

    >>> import keras_grapes as kg
    >>> figure = kg.analysis.plot_learning_curves({
    ...     "SGD": [0.45, 0.6, 0.68, 0.72], "GRAPES": [0.6, 0.75, 0.8, 0.84],
    ... })
    >>> figure.axes[0].get_xlabel()
    'epoch'
    """
    if not isinstance(curves, dict) or not curves:
        raise ValueError(
            "`curves` must be a dict of names to lists of accuracies, with one entry at least. "
            f"Received: curves={curves!r}"
        )
    fits = {
        name: fit_plateau(curve, chance, max_accuracy, epochs) for name, curve in curves.items()
    }
    if axes is None:
        axes = figures.new_axes()[0, 0]
    for number, (name, fit) in enumerate(fits.items()):
        style = figures.style(number)
        points = np.arange(1, len(curves[name]) + 1)
        axes.plot(
            points,
            curves[name],
            **{**style, "linestyle": "none"},
            label=f"{name}: maximum {fit.max_accuracy:.3f}, slowness {fit.slowness:.3g}",
        )
        line = np.linspace(0, fit.epochs, 400)
        axes.plot(line, plateau(line, *fit), color=style["color"], linestyle=style["linestyle"])
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy")
    axes.legend()
    return axes.figure
