"""Callback that tells how high and how fast a network learns."""

import warnings

import keras

from keras_grapes import analysis
from keras_grapes.callbacks.observation import log_name
from keras_grapes.checks import check_string
from keras_grapes.types import Axes, Figure

__all__ = ["LearningCurve"]


class LearningCurve(keras.callbacks.Callback):
    """Fits the plateau equation to the accuracy after every epoch.

    `accuracy = max_accuracy * epochs / (slowness + epochs)`, see
    `keras_grapes.analysis.fit_plateau`. After every epoch the fit to all epochs so far is added to
    the epoch's `logs` as `learning_curve/max_accuracy` and `learning_curve/slowness`, so that every
    callback that comes after this one in the list sees them, and so does the history that `fit`
    returns; their last entries are the result. They are NaN as long as the curve cannot be fitted:
    in the first two epochs, and while the curve is constant or straight. If this is still so at the
    end, a warning says it.

    Every call of `fit` starts a new curve. If training is resumed with `initial_epoch` and the same
    callback, the curve continues.

    Args:
        monitor: String, the name in the logs of the accuracy to fit, between 0 and 1. Defaults to
            `"val_accuracy"`.
        chance: Float, the accuracy before the first epoch. Defaults to `None`.
        max_accuracy: String, `"fit"` or `"observed"`. Defaults to `"fit"`.

    Attributes:
        accuracy: List of the accuracies, the first epoch's first.
        fit: `keras_grapes.analysis.PlateauFit` of all epochs, with the standard errors; `None`
            as long as the curve cannot be fitted.

    Raises:
        TypeError: If `monitor` is not a string.
        ValueError: If an argument is not one of the values above; or after the first epoch, if
            its logs lack `monitor`.

    References:
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), Eq. 5.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    >>> model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> x = keras.random.normal((64, 4), seed=0)
    >>> y = keras.ops.argmax(x[:, :3], axis=1)
    >>> curve = kg.callbacks.LearningCurve(monitor="accuracy")
    >>> history = model.fit(x, y, epochs=5, verbose=0, callbacks=[curve]).history
    >>> sorted(history)
    ['accuracy', 'learning_curve/max_accuracy', 'learning_curve/slowness', 'loss']
    """

    def __init__(
        self, monitor: str = "val_accuracy", chance: float | None = None, max_accuracy: str = "fit"
    ) -> None:
        super().__init__()
        # Checks both arguments: it fits any curve.
        analysis.fit_plateau([0.45, 0.6, 0.675], chance, max_accuracy)
        self.monitor = check_string("monitor", monitor)
        self.chance = chance
        self.max_accuracy = max_accuracy
        self.accuracy: list[float] = []
        self.fit: analysis.PlateauFit | None = None
        self._problem = None

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        if self.monitor not in logs:
            raise ValueError(
                f"`LearningCurve` needs '{self.monitor}' after every epoch. Received: logs with "
                f"{sorted(logs)} after epoch {epoch + 1}. Compile with metrics=['accuracy'] and "
                "pass `validation_data` to `fit`, or choose another `monitor`."
            )
        if epoch == 0:
            self.accuracy = []
        self.fit = None
        if epoch == len(self.accuracy):
            self.accuracy.append(float(logs[self.monitor]))
            try:
                self.fit = analysis.fit_plateau(self.accuracy, self.chance, self.max_accuracy)
            except ValueError as error:
                self._problem = str(error)
        else:
            self._problem = (
                f"it has seen the first {len(self.accuracy)} epochs alone of {epoch + 1}; resume "
                "training with the callback that saw the earlier ones."
            )
        nothing = (float("nan"), float("nan"))
        max_accuracy, slowness = nothing if self.fit is None else self.fit
        logs[log_name("learning_curve", "max_accuracy")] = max_accuracy
        logs[log_name("learning_curve", "slowness")] = slowness

    def on_train_end(self, logs=None):
        if self.fit is None and self._problem is not None:
            warnings.warn(
                f"`LearningCurve` cannot fit '{self.monitor}': {self._problem}", stacklevel=2
            )

    def plot(self, axes: Axes | None = None) -> Figure:
        """Draws the curve and its fit.

        Args:
            axes: `matplotlib.axes.Axes` to draw in. Defaults to `None`, a new figure.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ValueError: If the curve cannot be fitted.
        """
        return analysis.plot_learning_curves(
            {self.monitor: self.accuracy}, self.chance, self.max_accuracy, axes=axes
        )
