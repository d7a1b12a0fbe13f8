"""Feedback alignment: each error goes one layer down, through a fixed random kernel."""

import keras
import tensorflow as tf
from keras import ops

from keras_grapes.training.feedback import FeedbackModel, send_error


@keras.saving.register_keras_serializable(package="keras_grapes")
class FeedbackAlignment(FeedbackModel):
    """Trains a model by feedback alignment (FA) in place of back-propagation.

    Back-propagation takes the error of a layer to the one below by the transposed weights. Here a
    fixed random kernel `B` of the same shape takes their place: `delta[l] = (delta[l+1] B[l]^T) *
    f'(a[l])`. The weights align with the feedback while they learn. The output layer learns as by
    back-propagation.

    The model predicts what the wrapped model predicts and behaves as any Keras model: `compile`
    takes any optimizer, loss and metric, and `fit`, `evaluate`, `predict`, `save` and callbacks are
    Keras's own. A training loop of your own trains by the rule too: the gradients that a
    `tf.GradientTape` gives for the loss of `rule(x, training=True)` are those of the rule.
    `rule(x, backpropagate=True)` is the call with the gradients of back-propagation.
    `keras_grapes.callbacks.AlignmentAngle` compares the two. `rule.model` is the wrapped model:
    export that one for serving.

    Trained layers: `Dense`, `Conv1D`, `Conv2D` and `Conv3D`. Between them any layer without
    weights of its own, such as activations, dropout, pooling, `Flatten` and `Reshape`, and
    normalization: within the block of a trained layer and what follows it up to the next one,
    derivatives are exact, and regularizers act as ever. Through a convolution the error goes by a
    transposed convolution with `B`.

    With `modulation` the error is multiplied at the output of each hidden layer, as by
    `keras_grapes.propagate`, and the factors compound towards the input. An optimizer
    `keras_grapes.Grapes` gives the local version of GRAPES on the same rule, with the importance
    taken from the incoming weights; it is refused together with `modulation`, as each of them
    modulates.

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
            rule cannot train; if the initializer returns an array of another shape than asked for;
            and by `compile`, if both the model and the optimizer modulate.

    Attributes:
        model: The wrapped model.
        feedback_kernels: List of the feedback kernels as non-trainable variables, that of the
            first hidden layer first, each with the shape of the kernel of the layer above. They do
            not change in training and are saved with the model. Assign to them to set them.

    References:
        - [Lillicrap et al., 2016](https://doi.org/10.1038/ncomms13276).
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), Eq. 1 to 4.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, activation="relu"),
    ...     keras.layers.Dense(3, activation="softmax"),
    ... ])
    >>> rule = kg.FeedbackAlignment(model, modulation=True, seed=0)
    >>> rule.compile("sgd", loss="sparse_categorical_crossentropy")
    >>> [tuple(kernel.shape) for kernel in rule.feedback_kernels]
    [(8, 3)]
    """

    def _feedback_shapes(self, chain):
        return [tuple(block.layer.kernel.shape) for block in chain.blocks[1:]]

    def _route_error(self, current, passed):
        if not passed:
            return current.pre_activation
        feedback = self._kernels[len(passed) - 1]

        def errors(error):
            inputs = ops.cast(current.inputs, error.dtype)
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = current.block.transform(inputs, ops.cast(feedback, error.dtype))
            return [ops.cast(tape.gradient(outputs, inputs, error), current.inputs.dtype)]

        return send_error(current.pre_activation, [current.inputs], errors)
