"""How much larger the factors of stacked layers make the error, measured on a batch."""

import collections.abc
import warnings
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_grapes import backend, graph
from keras_grapes.groups import is_wrapper, weight_layers
from keras_grapes.layers.error_modulation import modulated_gradients, plain_gradients
from keras_grapes.models import propagation
from keras_grapes.models.gain_bound import readable
from keras_grapes.modulation import Modulation
from keras_grapes.training.feedback import FeedbackModel
from keras_grapes.types import Array

__all__ = ["ErrorGain", "error_gain"]


class ErrorGain(collections.abc.Mapping):
    """The measured error gain of each matrix of weights: a mapping from names, and a table.

    Attributes:
        largest: Float, the largest of them.
        median: Float, their median.
    """

    def __init__(self, gains: dict[str, float]) -> None:
        self._gains = gains

    def __getitem__(self, name):
        return self._gains[name]

    def __iter__(self):
        return iter(self._gains)

    def __len__(self):
        return len(self._gains)

    @property
    def largest(self):
        return float(np.nanmax(list(self._gains.values())))

    @property
    def median(self):
        return float(np.nanmedian(list(self._gains.values())))

    def __str__(self):
        rows = {"weights": "error gain", **{n: readable(g) for n, g in self._gains.items()}}
        rows = {**rows, "largest": readable(self.largest), "median": readable(self.median)}
        width = max(map(len, rows))
        right = max(map(len, rows.values()))
        lines = [f"{name:<{width}}  {gain:>{right}}" for name, gain in rows.items()]
        rule = "-" * width + "  " + "-" * right
        return "\n".join([lines[0], rule, *lines[1:-2], rule, *lines[-2:]])

    __repr__ = __str__


def error_gain(
    model: keras.Model,
    x: Array,
    y: Array,
    modulation: Modulation = Modulation(),
    loss: str | Callable | None = None,
    training: bool = True,
) -> ErrorGain:
    """Measures how many times larger a model's gradients are in the propagating version.

    For each matrix of weights it is the norm of the gradient with the error modulated, divided by
    the norm of the gradient without, on the same batch with the same random numbers. A layer
    with an error gain of 100 learns as if from a learning rate 100 times as large. The gain that
    `keras_grapes.summary` shows is computed from the graph alone: where paths join again, in
    residual networks for example, it is a bound that may be far above.

    The model stays as it is: its statistics, random seeds and weights.

    Args:
        model: A built `keras.Model`. Of a model without any `keras_grapes.ErrorModulation` the gain
            is that of `keras_grapes.propagate(model, modulation)`.
        x: Batch of inputs, as the model takes them.
        y: Batch of targets.
        modulation: A `keras_grapes.Modulation`, for a model that is not propagated. Defaults to
            `Modulation()`, GRAPES.
        loss: Name, function or `keras.losses.Loss`. Defaults to `None`, the loss that the model is
            compiled with; if it is not, the cross-entropy for integer classes and the mean squared
            error for other targets.
        training: Bool, whether normalization and dropout act as in training. Defaults to `True`.

    Returns:
        `ErrorGain`, a mapping from the names of the weights to their gains, in the order of the
        graph, with attributes `largest` and `median`. Print it. A gain is `nan` where no error
        arrives without modulation either.

    Raises:
        TypeError: If `model` is not a `keras.Model`, or is a feedback model, or if `x` or `y` is
            `None`.
        ValueError: If the model has no weights to train, or cannot be propagated.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> import numpy as np
    >>> model = keras.Sequential([
    ...     keras.Input((1,)),
    ...     keras.layers.Dense(2, use_bias=False, kernel_initializer="ones", name="hidden"),
    ...     keras.layers.Dense(1, name="out"),
    ... ])
    >>> gains = kg.error_gain(model, np.ones((4, 1)), np.zeros((4, 1)))
    >>> print(gains)
    weights  error gain
    -------  ----------
    hidden         2.00
    out            1.00
    -------  ----------
    largest        2.00
    median         1.50
    """
    if not isinstance(model, keras.Model) or isinstance(model, FeedbackModel):
        raise TypeError(
            "`error_gain` takes a `keras.Model` whose errors take the way of its graph. Received: "
            f"model={model!r} of type {type(model).__name__}{graph.keras_2_hint(model)}"
        )
    for name, value in (("x", x), ("y", y)):
        if value is None:
            raise TypeError(
                f"`{name}` must be an array or a structure of them, a batch. Received: {name}=None"
            )
    if not any(is_wrapper(layer) for layer in graph.all_layers(model)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = propagation.propagate(model, modulation)
    weights = _named_weights(model)
    if not weights:
        raise ValueError(
            f"`error_gain` needs matrices of weights to train, and model '{model.name}' has none."
        )
    x = keras.tree.map_structure(ops.convert_to_tensor, x)
    y = keras.tree.map_structure(ops.convert_to_tensor, y)

    def value():
        return _loss(model, x, y, loss, training)

    with plain_gradients():
        plain = _norms(model, value, weights)
    with modulated_gradients():
        modulated = _norms(model, value, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = np.where(plain > 0, modulated / plain, np.nan)
    return ErrorGain(dict(zip(weights, map(float, gains))))


def _named_weights(model):
    """Maps names to the matrices of weights that are trained: the layer's name, or the path."""
    trained = {id(weight) for weight in model.trainable_variables}
    found = {}
    for entry in weight_layers(model):
        if entry.groups:
            for weight in entry.layer.weights:
                if id(weight) in trained and len(weight.shape) > 1:
                    found.setdefault(id(weight), (entry.layer.name, weight))
    layer_names = [name for name, _ in found.values()]
    return {
        name if layer_names.count(name) == 1 else weight.path: weight
        for name, weight in found.values()
    }


def _norms(model, value, weights):
    state = [(v, ops.convert_to_numpy(v)) for v in model.non_trainable_variables]
    try:
        _, gradients = backend.gradients(value, list(weights.values()))
    finally:
        for variable, before in state:
            variable.assign(before)
    # In float64: the square of a large gradient would overflow.
    arrays = [0.0 if g is None else ops.convert_to_numpy(g) for g in gradients]
    return np.array([np.linalg.norm(np.asarray(a, "float64")) for a in arrays])


def _loss(model, x, y, loss, training):
    outputs = model(x, training=training)
    if loss is None and model.compiled:
        total = model.compute_loss(x=x, y=y, y_pred=outputs, training=training)
        # Penalties on weights are no error that arrives at a layer.
        return total - sum(model.losses) if model.losses else total
    pairs = zip(keras.tree.flatten(y), keras.tree.flatten(outputs), strict=True)
    return sum(
        ops.mean(
            (keras.losses.get(loss) if loss else _default_loss(target, output))(target, output)
        )
        for target, output in pairs
    )


def _default_loss(target, output):
    if "int" not in keras.backend.standardize_dtype(target.dtype):
        return keras.losses.MeanSquaredError()
    sums = ops.convert_to_numpy(ops.sum(ops.cast(output, "float32"), axis=-1))
    lowest = float(ops.min(output))
    is_distribution = lowest >= 0 and np.allclose(sums, 1, atol=1e-3)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=not is_distribution)
