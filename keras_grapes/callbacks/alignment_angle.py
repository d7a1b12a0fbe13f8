"""Callback that measures how far a feedback rule points away from back-propagation."""

import keras
import numpy as np

from keras_grapes import backend
from keras_grapes.analysis import figures
from keras_grapes.callbacks import observation
from keras_grapes.models import factors
from keras_grapes.training.feedback import FeedbackModel
from keras_grapes.types import Array, Axes, Figure

__all__ = ["AlignmentAngle"]


class AlignmentAngle(keras.callbacks.Callback):
    """Measures the angle between the update of a feedback rule and that of back-propagation.

    At the start and after every epoch the callback computes two gradients for the kernel of each
    hidden layer, on one fixed batch in inference mode: that of the rule, and that of back-
    propagation with the same weights. It records the angle between them and the ratio of their
    norms, the rule's over back-propagation's. Below 90 degrees a small enough step of the rule
    reduces the loss; at 0 degrees the rule is back-propagation. Modulation of the error is part of
    the rule; the optimizer is not.

    The numbers are added to the epoch's `logs` as `alignment/{layer}/angle` and
    `alignment/{layer}/norm_ratio`, so that every callback that comes after this one in the list
    sees them, and so does the history that `fit` returns. They are NaN where one of the gradients
    is zero. A further call of `fit` continues the record of the same model; another model starts a
    new record.

    Args:
        x: Array or tensor, a batch of inputs. A few hundred examples serve.
        y: Array or tensor, their targets.
        sample_weight: Array or tensor, their weights. Defaults to `None`.

    Attributes:
        epochs: List of the epochs measured, counted from the first training that this callback saw;
            0 is its start.
        angles: Dict of the name of each hidden layer to the list of its angles in degrees, NaN
            while it was frozen.
        norm_ratios: Dict likewise.

    Raises:
        ValueError: If the batch is empty, or `x` and `y` are of different lengths.
        TypeError: If `x` or `y` is `None`; or by `fit`, if the model is not a feedback model.

    References:
        - [Lillicrap et al., 2016](https://doi.org/10.1038/ncomms13276).

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> x, y = keras.random.normal((32, 4), seed=0), keras.ops.zeros((32,))
    >>> rule = kg.FeedbackAlignment(keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, activation="relu", name="hidden"),
    ...     keras.layers.Dense(3, activation="softmax"),
    ... ]))
    >>> rule.compile("sgd", loss="sparse_categorical_crossentropy")
    >>> history = rule.fit(x, y, verbose=0, callbacks=[kg.callbacks.AlignmentAngle(x, y)])
    >>> sorted(history.history)
    ['alignment/hidden/angle', 'alignment/hidden/norm_ratio', 'loss']
    """

    def __init__(self, x: Array, y: Array, sample_weight: Array | None = None) -> None:
        super().__init__()
        if x is None or y is None:
            raise TypeError(
                "`x` and `y` must be a batch of inputs and their targets. Received: "
                f"{'x' if x is None else 'y'}=None"
            )
        self._batch = [
            None if part is None else keras.ops.convert_to_tensor(part)
            for part in (x, y, sample_weight)
        ]
        sizes = [len(part) if len(part.shape) else 0 for part in self._batch if part is not None]
        if len(set(sizes)) != 1 or not sizes[0]:
            raise ValueError(
                "`x`, `y` and `sample_weight` must be one batch, with at least one example. "
                f"Received: {' and '.join(map(str, sizes))} examples"
            )
        self._observed = None
        self._begin()

    def _begin(self):
        self.epochs = []
        self.angles = {}
        self.norm_ratios = {}

    def on_train_begin(self, logs=None):
        if not isinstance(self.model, FeedbackModel):
            raise TypeError(
                "`AlignmentAngle` observes a feedback model, such as "
                "`keras_grapes.FeedbackAlignment(model)`. Received: a model of type "
                f"{type(self.model).__name__}"
            )
        if self._observed is not self.model:
            self._observed = self.model
            self._begin()
            self._measure()

    def on_epoch_end(self, epoch, logs=None):
        measured = self._measure()
        if logs is not None:
            logs.update(measured)

    def _measure(self):
        rule = self._kernel_gradients()
        exact = self._kernel_gradients(backpropagate=True)
        angles, norm_ratios, logs = {}, {}, {}
        for layer, gradient in rule.items():
            angles[layer], norm_ratios[layer] = _compare(gradient, exact[layer])
            logs[observation.log_name("alignment", layer, "angle")] = angles[layer]
            logs[observation.log_name("alignment", layer, "norm_ratio")] = norm_ratios[layer]
        count = len(self.epochs)
        observation.append(self.angles, angles, count)
        observation.append(self.norm_ratios, norm_ratios, count)
        self.epochs.append(count)
        return logs

    def _kernel_gradients(self, **kwargs):
        """Maps the name of each hidden layer that is trained to its kernel's gradient."""
        gradients = self.model.gradients(*self._batch, **kwargs)
        weights = self.model.trainable_weights
        of = {backend.variable_key(weight): g for weight, g in zip(weights, gradients)}
        hidden = {group.keys[0] for group in self.model.hidden_groups if group}
        groups = [n for n in factors.node_groups(self.model) if n.group.keys[0] in hidden]
        return {
            name: keras.ops.convert_to_numpy(of[nodes.group.keys[0]])
            for name, nodes in zip(factors.names(groups), groups)
            if nodes.group.keys[0] in of
        }

    def plot(self, quantity: str = "angle", axes: Axes | None = None) -> Figure:
        """Draws what was measured over the epochs, a line for each hidden layer.

        Args:
            quantity: String, `"angle"` or `"norm_ratio"`. Defaults to `"angle"`.
            axes: `matplotlib.axes.Axes` to draw in. Defaults to `None`, a new figure.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ValueError: If `quantity` is neither, or nothing was measured.
        """
        quantities = {
            "angle": (self.angles, "angle to back-propagation (degrees)", 90),
            "norm_ratio": (self.norm_ratios, "norm / norm by back-propagation", 1),
        }
        if quantity not in quantities:
            raise ValueError(
                f"`quantity` must be one of {tuple(quantities)}. Received: quantity={quantity!r}"
            )
        if not self.epochs:
            raise ValueError("`plot` has nothing to draw: pass this callback to `fit` first.")
        values, label, reference = quantities[quantity]
        if axes is None:
            axes = figures.new_axes(size=(6.4, 4))[0, 0]
        for layer, line in values.items():
            axes.plot(self.epochs, line, marker="o", markersize=3, label=layer)
        axes.axhline(reference, color="0.5", linestyle=":", linewidth=1)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        figures.whole_numbers(axes.xaxis)
        axes.legend()
        return axes.figure


def _compare(gradient, exact):
    """Angle in degrees between two arrays, and the ratio of their norms."""
    gradient, exact = (np.ravel(array).astype("float64") for array in (gradient, exact))
    norm, exact_norm = np.linalg.norm(gradient), np.linalg.norm(exact)
    if not (norm > 0 and exact_norm > 0):
        return float("nan"), float("nan")
    cosine = np.clip(gradient @ exact / (norm * exact_norm), -1, 1)
    return float(np.degrees(np.arccos(cosine))), float(norm / exact_norm)
