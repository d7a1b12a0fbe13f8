"""Indirect feedback alignment: the output error goes to the first hidden layer, then forward."""

import itertools

import keras
from keras import ops

from keras_grapes import backend
from keras_grapes.training.chain import Chain
from keras_grapes.training.feedback import FeedbackModel, send_error
from keras_grapes.training.projection import check_size, projections

__all__ = ["IndirectFeedbackAlignment"]


@keras.saving.register_keras_serializable(package="keras_grapes")
class IndirectFeedbackAlignment(FeedbackModel):
    """Trains a model by indirect feedback alignment (IFA) in place of back-propagation.

    The error `e` of the output layer goes to the first hidden layer through a fixed random kernel,
    `delta[1] = (e B^T) * f'(a[1])`, and from there up through the forward weights: `delta[l] =
    (delta[l-1] W[l]) * f'(a[l])`. No transposed weights are needed. The output layer learns as with
    back-propagation.

    The model must be a chain, without skips and branches. Otherwise use, trained layers and
    optimizers are as in `keras_grapes.FeedbackAlignment`. The error arrives at the first hidden
    layer at the same place as in `keras_grapes.DirectFeedbackAlignment`. On its way up it follows
    the values: maximum pooling passes on the error of the largest values, average pooling the mean;
    dropout and normalization multiply it by their derivatives.

    With `modulation` the error of each hidden layer is multiplied by its factors, and the
    multiplied error goes on: the factors multiply from layer to layer towards the output.

    Args:
        model: A built Sequential `keras.Model`, or a Functional one that is a single chain. Its
            weights are not copied: training this model trains `model`.
        modulation: A `keras_grapes.Modulation`, or `True` for GRAPES with its defaults: the
            error of each hidden node is multiplied by a factor that depends on its incoming
            weights. Defaults to `None`, no modulation.
        feedback_initializer: A Keras initializer of the feedback kernels, its name or its config.
            Defaults to `"he_uniform"`, uniform up to `sqrt(6 / fan_in)`, where `fan_in` is the
            width of the layer that receives the error.
            `keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")` gives Nøkland's bound,
            `1 / sqrt(fan_in)`.
        seed: Int that makes the feedback kernels reproducible. Defaults to `None`.
        **kwargs: `name` and `trainable`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `model` is not such a model, has no hidden layer, or holds a layer that the
            rule cannot train; if the sizes of its maps are not known; if the initializer returns an
            array of another shape than asked for; and by `compile`, if both the model and the
            optimizer modulate.

    Attributes:
        model: The wrapped model.
        feedback_kernels: List of the one feedback kernel, a non-trainable variable of the shape
            `(units of the first hidden layer, outputs)`; for a convolution `(height * width *
            filters, outputs)`.

    References:
        - [Nøkland, 2016](https://arxiv.org/abs/1609.01596).
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), Eq. 1 to 4.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, activation="tanh"),
    ...     keras.layers.Dense(6, activation="tanh"),
    ...     keras.layers.Dense(3, activation="softmax"),
    ... ])
    >>> rule = kg.IndirectFeedbackAlignment(model, seed=0)
    >>> rule.compile("sgd", loss="categorical_crossentropy")
    >>> [tuple(kernel.shape) for kernel in rule.feedback_kernels]
    [(8, 3)]
    """

    def check(self):
        self._chain = Chain(self.wiring)
        for block in self._chain.blocks:
            if len(block.site.linear.kernels) > 1:
                raise ValueError(
                    f"`IndirectFeedbackAlignment` cannot carry the error forward through layer "
                    f"'{block.site.layer.name}' of type {type(block.site.layer).__name__}, which "
                    "has several kernels. Use another layer, or another rule."
                )
            for step in block.local:
                before, after = (slots[0].shape for slots in (step.inputs, step.outputs))
                if not self.wiring.moves(step) and before != after:
                    raise ValueError(
                        f"`IndirectFeedbackAlignment` cannot carry the error forward through layer "
                        f"'{step.operation.name}' of type {type(step.operation).__name__}, which "
                        f"changes the shape {before[1:]} to {after[1:]}. Use a pooling, padding or "
                        "reshaping layer of Keras, or another rule."
                    )

    def feedback_shapes(self):
        first, last = self._chain.blocks[0], self._chain.blocks[-1]
        timed = [first.output in self.wiring.over_time, self.wiring.is_over_time(last.site)]
        shapes = first.output.shape, last.site.current_shape
        (self._projection,) = projections(shapes[0], [shapes[1]], timed)
        values, outputs = self._projection.values, self._projection.outputs
        layer = first.site.layer
        check_size(type(self).__name__, (layer, shapes[0][1:]), values, outputs)
        return [(layer.name, (values, outputs), layer.variable_dtype)]

    def route_error(self, site, inputs, outputs, current):
        return outputs

    def run(self, current, training):
        super().run(current, training, self._chain.entry)
        x = current.values[self._chain.blocks[0].site.input]
        passed = []
        for block in self._chain.blocks:
            passed.append(self._pass(block, x, passed, current, training))
            x = passed[-1].end
        current.values[self.wiring.program.outputs[0]] = x

    def _pass(self, block, x, passed, current, training):
        site = block.site
        x = ops.cast(x, site.layer.compute_dtype)
        if site.linear.prepare is not None:
            x = site.linear.prepare(x, training)
        z = site.linear.apply(ops.stop_gradient(x), *site.kernels)
        if site.is_output:
            z = self._send(z, list(passed))

        def activate(z):
            return self.call_site(site, (x,), {}, lambda inputs: z, current, training)

        steps = [_Step(activate, z)]
        for step in (*block.local, *block.moving):
            steps.append(
                _Step(
                    lambda x, step=step: self.call_step(step, (x,), {}, training),
                    steps[-1].output,
                    self.wiring.moves(step),
                )
            )
        return _Passed(block, z, steps)

    def _send(self, z, hidden):
        def errors(error):
            arriving = [self._projection(error, self._kernels[0], hidden[0].output)]
            for below, above in itertools.pairwise(hidden):
                delta = below.delta(arriving[-1])
                delta = ops.cast(below.carry(delta, below.steps), above.z.dtype)
                delta = above.block.site.linear.apply(delta, *above.block.site.kernels)
                arriving.append(above.carry(delta, above.local))
            return arriving

        return send_error(z, [one.output for one in hidden], errors)


class _Step:
    """A step of a block, with its derivatives both ways."""

    def __init__(self, function, inputs, moves=False):
        self.function = function
        self.inputs = inputs
        self.moves = moves
        self.output, self.pullback = backend.vjp(function, inputs)


class _Passed:
    """A pass through a block.

    Attributes:
        block: The `Block`.
        z: Tensor, what the linear map of its layer puts out.
        steps: List of the `_Step`s from there to the end of the block.
        local: Those of them up to the last that changes values.
    """

    def __init__(self, block, z, steps):
        self.block = block
        self.z = z
        self.steps = steps
        self.local = steps[: 1 + len(block.local)]

    @property
    def output(self):
        """Tensor behind the last step that changes values; there the error of the block arrives."""
        return self.local[-1].output

    @property
    def end(self):
        return self.steps[-1].output

    def delta(self, error):
        """Takes an error at `output` back to the output of the linear map."""
        for step in reversed(self.local):
            (error,) = step.pullback(error)
        return error

    def carry(self, error, steps):
        """Takes an error forward the way that the values went."""
        for step in steps:
            if step.moves:
                error = ops.cast(error, step.inputs.dtype)
                _, error = backend.jvp(step.function, [step.inputs], [error])
        return error
