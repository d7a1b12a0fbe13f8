"""Direct feedback alignment: the output error goes straight to every hidden layer."""

import keras

from keras_grapes.training.direct_feedback import DirectFeedback, Source
from keras_grapes.training.feedback import send_error

__all__ = ["DirectFeedbackAlignment"]


@keras.saving.register_keras_serializable(package="keras_grapes")
class DirectFeedbackAlignment(DirectFeedback):
    """Trains a model by direct feedback alignment (DFA) in place of back-propagation.

    The error `e` of the output layer is the derivative of the loss with respect to its
    pre-activations. It goes directly to every hidden layer, each through its own fixed random
    kernel: `delta[l] = (e B[l]^T) * f'(a[l])`. The updates of the layers do not wait for each
    other, and the update of a hidden layer does not depend on the weights above it. The output
    layer learns as with back-propagation.

    Use, trained layers, graphs and optimizers are as in `keras_grapes.FeedbackAlignment`. Every
    tensor that feeds layers with kernels gets the output error through its own kernel, in place of
    the errors of these layers. Between the layers with kernels all gradients are exact, skips
    included. With several outputs, a tensor gets the errors of those outputs that it leads to,
    concatenated. The error arrives after the activation, normalization and dropout that follow a
    hidden layer, and before the pooling and `Flatten` after these: in a convolutional network, at
    every place of the output map.

    If the output and the hidden tensor have the same time steps or places, these share one kernel
    `(units, outputs)`, and the error of each step or place goes to the same step or place. If only
    the hidden tensor has time steps, as before a recurrent or spiking layer that returns its last
    output, all steps get the same error. Within a recurrent or spiking layer errors go back through
    time exactly. The error of a spiking output layer is that of its input current.

    With `modulation` the importance is presynaptic: the importance of a hidden node is the sum of
    the absolute weights that leave it. For a channel of a map the sum runs over all places that the
    map feeds, through pooling, `Flatten`, skips and concatenations.

    A rule of your own that sends something other than the error overrides `sent_error`.

    Args:
        model: A built Sequential or Functional `keras.Model`. Its weights are not copied: training
            this model trains `model`.
        modulation: A `keras_grapes.Modulation`, or `True` for GRAPES with its defaults: the
            error of each hidden node is multiplied by a factor that depends on the weights that
            leave it. Defaults to `None`, no modulation.
        feedback_initializer: A Keras initializer of the feedback kernels, its name or its config,
            or a function of a shape; a function without a name is not saved, the kernels are.
            Defaults to `"he_uniform"`, uniform up to `sqrt(6 / fan_in)`, where `fan_in` is the
            width of the layer that receives the error.
            `keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")` gives Nøkland's bound,
            `1 / sqrt(fan_in)`.
        seed: Int that makes the feedback kernels reproducible. Defaults to `None`.
        **kwargs: `name` and `trainable`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `model` is not such a model, has no hidden layer, or holds a layer that the
            rule cannot train; if the sizes of its maps are not known, or a feedback kernel would
            need more than 1 GiB; if the initializer returns an array of another shape than asked
            for; and by `compile`, if both the model and the optimizer modulate.

    Attributes:
        model: The wrapped model.
        feedback_kernels: List of the feedback kernels as non-trainable variables, one for each
            tensor that is handed to layers with kernels and depends on a hidden layer, in the order
            of the graph. That of a `Dense` layer has the shape `(units, outputs)`, that of a
            convolution `(height * width * filters, outputs)`, unless the output has its places.

    References:
        - [Nøkland, 2016](https://arxiv.org/abs/1609.01596).
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
    >>> rule = kg.DirectFeedbackAlignment(model, seed=0)
    >>> rule.compile("adam", loss="categorical_crossentropy")
    >>> [tuple(kernel.shape) for kernel in rule.feedback_kernels]
    [(8, 3), (6, 3)]
    """

    def sources(self):
        return [
            Source(site, site.current_shape, self.wiring.is_over_time(site), [site])
            for site in self.wiring.outputs
        ]

    def sent_error(self, error):
        """Returns what goes to the hidden layers for an error at the output, the error itself.

        Args:
            error: Tensor, the derivative of the loss by the pre-activations of an output layer.
        """
        return error

    def route_error(self, site, inputs, outputs, current):
        if not site.is_output:
            return outputs
        receivers = [target for target in self.targets if site in target.projections]
        tensors = [current.values[target.slot] for target in receivers]

        def errors(error):
            sent = self.sent_error(error)
            return [
                target.project(site, sent, kernel, tensor)
                for target, kernel, tensor in zip(
                    receivers, [self._kernels[t.index] for t in receivers], shapes
                )
            ]

        shapes = [keras.ops.stop_gradient(tensor) for tensor in tensors]
        # Here the update of a layer does not wait for other layers. All factors must be computed
        # before any weight changes.
        factors = list(current.factors.values())
        return send_error(outputs, tensors, errors, after=factors)
