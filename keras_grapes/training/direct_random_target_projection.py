"""Direct random target projection: the targets go to every hidden layer, and no error does."""

import math

import keras
from keras import ops

from keras_grapes import backend
from keras_grapes.training.direct_feedback import DirectFeedback, Source
from keras_grapes.training.feedback import send_error

__all__ = ["DirectRandomTargetProjection"]


@keras.saving.register_keras_serializable(package="keras_grapes")
class DirectRandomTargetProjection(DirectFeedback):
    """Trains a model by direct random target projection (DRTP) in place of back-propagation.

    Like `keras_grapes.DirectFeedbackAlignment`, with the targets in place of the output error: the
    targets `y*` (one-hot if they are class indices) go directly to every hidden layer, each through
    its own fixed random kernel, `delta[l] = (y* B[l]^T) * f'(a[l])`. No hidden layer waits for the
    output. The output layer learns from the loss as with back-propagation.

    Whatever the loss is, the hidden layers learn from the mean of `delta` over the batch and over
    the time steps or places of the targets, weighted by `sample_weight`. In your own training loop
    take the gradients of `rule.compute_loss(x, y, rule(x, training=True))`: from another loss the
    hidden layers learn nothing.

    Args:
        model: A built Sequential or Functional `keras.Model`. Its weights are not copied: training
            this model trains `model`.
        modulation: A `keras_grapes.Modulation`, or `True` for GRAPES with its defaults: what each
            hidden node receives is multiplied by a factor that depends on the weights that leave
            it.
            Defaults to `None`, no modulation.
        feedback_initializer: A Keras initializer of the feedback kernels, its name or its config,
            or a function of a shape; a function without a name is not saved, the kernels are.
            Defaults to `"he_uniform"`.
        seed: Int that makes the feedback kernels reproducible. Defaults to `None`.
        **kwargs: `name` and `trainable`.

    Call arguments:
        y: In training, of each output: the targets, shaped as the output, or class indices without
            its last axis, or with one of size 1.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: As `keras_grapes.DirectFeedbackAlignment`; and in training, if there are no
            targets, or targets of another shape.

    Attributes:
        model: The wrapped model.
        feedback_kernels: List of the feedback kernels as non-trainable variables, one for each
            tensor that is handed to layers with kernels and depends on a hidden layer, in the order
            of the graph: `(values there, targets)`, or `(units, targets)` where time steps or
            places share it, as in `keras_grapes.DirectFeedbackAlignment`.

    References:
        - [Frenkel et al., 2021](https://doi.org/10.3389/fnins.2021.629892).
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), Eq. 6.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, activation="tanh"),
    ...     keras.layers.Dense(6, activation="tanh"),
    ...     keras.layers.Dense(3, activation="softmax"),
    ... ])
    >>> rule = kg.DirectRandomTargetProjection(model, seed=0)
    >>> rule.compile("adam", loss="sparse_categorical_crossentropy")
    >>> [tuple(kernel.shape) for kernel in rule.feedback_kernels]
    [(8, 3), (6, 3)]
    """

    def sources(self):
        program, timed = self.wiring.program, self.wiring.over_time
        return [
            Source(place, slot.shape, slot in timed, sites)
            for place, (slot, sites) in enumerate(zip(program.outputs, self.wiring.ends))
        ]

    def begin(self, current, training):
        # Until `compute_loss`, where the targets come, within the same step.
        self._current = current

    def route_error(self, site, inputs, outputs, current):
        if not site.is_output:
            return outputs
        return send_error(outputs, [], lambda error: [], after=list(current.factors.values()))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        current, self._current = getattr(self, "_current", None), None
        if current is None:
            return loss  # By back-propagation, for comparison.
        targets = self._targets(y, sample_weight)
        for target in self.targets:
            tensor = current.values[target.slot]
            kernel = self._kernels[target.index]
            for place in target.projections:
                arriving = target.project(place, targets[place], kernel, tensor)
                # No weights may change before all of the factors that are computed from them are.
                arriving = backend.identity(arriving, after=list(current.factors.values()))
                learned = _Arriving()(arriving, tensor)
                # It brings its derivative, and leaves the loss as it is.
                loss = loss + ops.cast(learned - ops.stop_gradient(learned), loss.dtype)
        return loss

    def _targets(self, y, sample_weight):
        """Lists the targets of the outputs, shaped as these, weighted and averaged over places."""
        slots = self.wiring.program.outputs
        given, weights = self._by_output(y), self._by_output(sample_weight)
        if len(given) != len(slots):
            raise ValueError(
                f"`{type(self).__name__}` learns from a target for each output of the model. "
                f"Received: {len(given)} targets for {len(slots)} outputs"
            )
        if len(weights) != len(slots):
            weights = (weights or [None]) * len(slots)
        return [
            _weighted(_shaped(target, slot.shape), weight)
            for target, slot, weight in zip(given, slots, weights)
        ]

    def _by_output(self, values):
        if isinstance(values, dict) and not isinstance(self._structures[1], dict):
            if set(self.output_names or ()) == set(values):
                values = [values[name] for name in self.output_names]
        return [value for value in keras.tree.flatten(values) if value is not None]


class _Arriving(keras.losses.Loss):
    """A loss whose derivative by a tensor is what arrives there, averaged over the batch."""

    def __init__(self):
        super().__init__(name="arriving")

    def call(self, y_true, y_pred):
        product = ops.multiply(ops.stop_gradient(y_true), y_pred)
        return ops.sum(ops.reshape(product, (ops.shape(y_pred)[0], -1)), axis=-1)


def _weighted(targets, weight):
    """Targets times sample weights, over the number of time steps or places of an example."""
    if weight is not None:
        weight = ops.cast(ops.convert_to_tensor(weight), targets.dtype)
        if len(weight.shape) == len(targets.shape):
            weight = ops.squeeze(weight, -1)
        for _ in range(len(targets.shape) - len(weight.shape)):
            weight = ops.expand_dims(weight, -1)
        targets = ops.multiply(targets, weight)
    places = math.prod(ops.shape(targets)[1:-1])
    return targets / ops.cast(places, targets.dtype)


def _shaped(target, shape):
    """A target as float values in the shape of an output; class indices become one-hot."""
    target = ops.convert_to_tensor(target)
    size = shape[-1]
    rank = len(target.shape)
    if rank == len(shape) and target.shape[-1] == size:
        return ops.cast(target, "float32")
    if rank == len(shape) and target.shape[-1] == 1:
        target = ops.squeeze(target, -1)
    elif rank != len(shape) - 1:
        raise ValueError(
            "Targets must have the shape of the output, or be class indices without its last axis. "
            f"Received: targets of shape {tuple(target.shape)} for an output of shape {shape}"
        )
    if size == 1:
        return ops.cast(ops.expand_dims(target, -1), "float32")
    return ops.one_hot(ops.cast(target, "int32"), size)
