"""Indirect feedback alignment: the output error goes to the first hidden layer, then forward."""

import itertools

import keras
import tensorflow as tf
from keras import ops

from keras_grapes.training.feedback import FeedbackModel, project, projection_shape, send_error


@keras.saving.register_keras_serializable(package="keras_grapes")
class IndirectFeedbackAlignment(FeedbackModel):
    """Trains a model by indirect feedback alignment (IFA) in place of back-propagation.

    The error `e` of the output layer goes to the first hidden layer by a fixed random kernel,
    `delta[1] = (e B^T) * f'(a[1])`, and from there up, by the forward weights: `delta[l] =
    (delta[l-1] W[l]) * f'(a[l])`. No transposed weights are needed. The output layer learns as by
    back-propagation.

    Use, trained layers and optimizers are those of `keras_grapes.FeedbackAlignment`. The error
    arrives at the first hidden layer where `keras_grapes.DirectFeedbackAlignment` brings it. On
    its way up it takes the way of the values: of a maximum pooling the places that won, of an
    average pooling the mean; dropout and normalization act on it by their derivatives alone.

    With `modulation` the error of each hidden layer is multiplied by its factors and goes on so
    multiplied: they compound towards the output.

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

    def _check(self, chain, modulation):
        for block in chain.hidden:
            for step in block.local:
                if not step.moves and step.input_shape != step.output_shape:
                    raise ValueError(
                        f"`IndirectFeedbackAlignment` cannot carry the error forward through layer "
                        f"'{step.layer.name}' of type {type(step.layer).__name__}, which changes "
                        f"the shape {step.input_shape} to {step.output_shape}. Use a pooling, "
                        "padding or reshaping layer of Keras, or another rule."
                    )

    def _feedback_shapes(self, chain):
        return [projection_shape(chain, chain.hidden[0], type(self).__name__)]

    def _activate(self, current, place):
        # Recorded for `errors` below, which needs the derivative of each block by itself.
        with tf.GradientTape(persistent=True) as current.tape:
            current.tape.watch(current.pre_activation)
            return super()._activate(current, place)

    def _route_error(self, current, passed):
        if current.block is not self._chain.output:
            return current.pre_activation

        hidden = list(passed)

        def errors(error):
            arriving = [project(error, self._kernels[0], hidden[0].output)]
            for below, above in itertools.pairwise(hidden):
                delta = below.tape.gradient(
                    below.output,
                    below.pre_activation,
                    arriving[-1],
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )
                delta = _carry(delta, below, below.block.steps)
                delta = ops.cast(delta, above.pre_activation.dtype)
                delta = above.block.transform(delta, above.block.kernel())
                arriving.append(_carry(delta, above, above.block.local))
            return arriving

        return send_error(current.pre_activation, [one.output for one in hidden], errors)


def _carry(error, current, steps):
    """Takes an error forward the way that the values went, through `steps` of a `Pass`."""
    for step in steps:
        if step.moves:
            inputs = current.step_inputs[step]
            with tf.autodiff.ForwardAccumulator(inputs, ops.cast(error, inputs.dtype)) as way:
                outputs = step.layer(inputs)
            error = way.jvp(outputs)
    return error
