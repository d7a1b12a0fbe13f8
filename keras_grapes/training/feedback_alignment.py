"""Feedback alignment: each error goes one layer down, through a fixed random kernel."""

import keras
from keras import ops

from keras_grapes import backend
from keras_grapes.training.feedback import FeedbackModel, send_error

__all__ = ["FeedbackAlignment"]


@keras.saving.register_keras_serializable(package="keras_grapes")
class FeedbackAlignment(FeedbackModel):
    """Trains a model by feedback alignment (FA) in place of back-propagation.

    Back-propagation sends the error of a layer to the layer below through the transposed weights.
    This rule uses a fixed random kernel `B` of the same shape instead: `delta[l] = (delta[l+1]
    B[l]^T) * f'(a[l])`. While the weights learn, they align with the feedback. The output layer
    learns as with back-propagation.

    The rule is local to a layer: where a layer with a kernel passes its error to its input, `B`
    replaces the kernel. All other gradients are exact: activations, normalization, dropout,
    pooling, skips and branches, regularizers, and the dynamics of recurrent and spiking units
    within their layer, recurrent kernel included. The model may therefore be any graph of layers,
    with several inputs and outputs, and with layers that are called more than once.

    The model predicts what the wrapped model predicts and behaves as any Keras model: `compile`
    takes any optimizer, loss and metric, and `fit`, `evaluate`, `predict`, `save` and callbacks are
    Keras's own. Your own training loop follows the rule too: for the loss of `rule(x,
    training=True)` a `tf.GradientTape` gives the gradients of the rule.
    `rule(x, backpropagate=True)` gives those of back-propagation.
    `keras_grapes.callbacks.AlignmentAngle` compares the two. `rule.model` is the wrapped model;
    export this one for serving.

    Trained layers: `Dense`, `EinsumDense`, `Conv1D` to `Conv3D`, their transposed, depthwise and
    separable kinds, `SimpleRNN`, `keras_grapes.SNU`, `SSNU` and `ConvSNU2D`, and layers whose
    linear map you register with `keras_grapes.register_linear_map`. Through a convolution the error
    goes backward by a transposed convolution with `B`.

    With `modulation` the error is multiplied at the output of each hidden layer, as with
    `keras_grapes.propagate`, and the factors multiply from layer to layer towards the input. With a
    `keras_grapes.Grapes` optimizer the rule uses the local version of GRAPES, with the importance
    of the incoming weights. `compile` refuses both at once.

    A rule of your own that passes errors down through other kernels overrides `backward_kernel`.

    Args:
        model: A built Sequential or Functional `keras.Model`. Its weights are not copied: training
            this model trains `model`.
        modulation: A `keras_grapes.Modulation`, or `True` for GRAPES with its defaults: the
            error of each hidden node is multiplied by a factor that depends on its incoming
            weights. Defaults to `None`, no modulation.
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
            rule cannot train; if the initializer returns an array of another shape than asked for;
            and by `compile`, if both the model and the optimizer modulate.

    Attributes:
        model: The wrapped model.
        feedback_kernels: List of the feedback kernels as non-trainable variables, one for each
            layer whose input depends on a hidden layer, with the shape of its kernel, in the order
            of the graph; a separable convolution has two. They do not change in training and are
            saved with the model. Assign to them to set them.

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
    >>> rule = kg.FeedbackAlignment(model, modulation=kg.Modulation(), seed=0)
    >>> rule.compile("sgd", loss="sparse_categorical_crossentropy")
    >>> [tuple(kernel.shape) for kernel in rule.feedback_kernels]
    [(8, 3)]
    """

    def feedback_shapes(self):
        named, self._feedback_of = [], {}
        for site in self.wiring.sites:
            layer = site.layer
            if site.depends and id(layer) not in self._feedback_of:
                count = len(site.linear.kernels)
                self._feedback_of[id(layer)] = slice(len(named), len(named) + count)
                for kernel in site.linear.kernels:
                    named.append((layer.name, tuple(kernel.shape), layer.variable_dtype))
        return named

    def backward_kernel(self, kernel, feedback):
        """Returns the kernel through which a layer passes its error to its input.

        Args:
            kernel: Tensor, the layer's kernel now.
            feedback: Tensor, the feedback kernel that was drawn for it.

        Returns:
            Tensor of their shape, `feedback`.
        """
        return feedback

    def route_error(self, site, inputs, outputs, current):
        if not site.depends:
            return outputs
        kernels = [
            self.backward_kernel(ops.stop_gradient(kernel), ops.convert_to_tensor(feedback))
            for kernel, feedback in zip(
                site.kernels, self._kernels[self._feedback_of[id(site.layer)]]
            )
        ]
        at = ops.stop_gradient(inputs)

        def errors(error):
            used = [ops.cast(kernel, error.dtype) for kernel in kernels]
            _, pullback = backend.vjp(
                lambda x: site.linear.apply(x, *used), ops.cast(at, error.dtype)
            )
            return [ops.cast(pullback(error)[0], inputs.dtype)]

        # The kernels must be read before any weight changes.
        return send_error(outputs, [inputs], errors, after=kernels)
