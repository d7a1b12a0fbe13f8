"""Direct feedback alignment: the output error goes straight to every hidden layer."""

import keras
from keras import layers, ops

from keras_grapes.training.feedback import FeedbackModel, project, projection_shape, send_error


@keras.saving.register_keras_serializable(package="keras_grapes")
class DirectFeedbackAlignment(FeedbackModel):
    """Trains a model by direct feedback alignment (DFA) in place of back-propagation.

    The error `e` of the output layer, the derivative of the loss by its pre-activations, goes
    straight to every hidden layer by a fixed random kernel of its own: `delta[l] = (e B[l]^T) *
    f'(a[l])`. The updates of the layers do not wait for each other, and the weights above a hidden
    layer play no part in its update. The output layer learns as by back-propagation.

    Use, trained layers and optimizers are those of `keras_grapes.FeedbackAlignment`. The error
    arrives behind the activation, normalization and dropout that follow a hidden layer, ahead of
    the pooling and `Flatten` after these: in a convolutional net, at every place of the output
    map.

    With `modulation` the importance is presynaptic: a hidden node is as important as the sum of
    the absolute weights that leave it. For a channel of a map it runs over all the places that the
    map feeds, through pooling and `Flatten`.

    Args:
        model: A built Sequential `keras.Model`, or a Functional one that is a single chain. Its
            weights are not copied: training this model trains `model`.
        modulation: A `keras_grapes.Modulation`, or `True` for GRAPES with its defaults: the
            error of each hidden node is multiplied by a factor that depends on the weights that
            leave it. Defaults to `None`, no modulation.
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
        feedback_kernels: List of the feedback kernels as non-trainable variables, that of the
            first hidden layer first. That of a `Dense` layer has the shape `(units, outputs)`,
            that of a convolution `(height * width * filters, outputs)`.

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

    def _check(self, chain, modulation):
        if modulation is not None:
            for place in range(len(chain.hidden)):
                _leaving_shape(chain, place)

    def _feedback_shapes(self, chain):
        return [projection_shape(chain, block, type(self).__name__) for block in chain.hidden]

    def _route_error(self, current, passed):
        if current.block is not self._chain.output:
            return current.pre_activation
        targets = [hidden.output for hidden in passed]

        def errors(error):
            return [
                project(error, kernel, target) for kernel, target in zip(self._kernels, targets)
            ]

        # An update waits for no other layer here: no weights may change before all of the factors
        # that are computed from them are.
        factors = [hidden.factor for hidden in passed if hidden.factor is not None]
        return send_error(current.pre_activation, targets, errors, after=factors)

    def factor(self, place, modulation=None):
        # Presynaptic: a node is as important as the weights that leave it.
        shape, repeats = _leaving_shape(self._chain, place)
        kernel = ops.reshape(self._chain.blocks[place + 1].layer.kernel, shape)
        if repeats > 1:
            kernel = ops.tile(kernel, (1, repeats, 1))
        return (modulation or self.modulation)(kernel, incoming_axes=(0, 2))


def _leaving_shape(chain, place):
    """Tells how the weights that leave a hidden layer belong to its nodes.

    Returns:
        Tuple `(shape, repeats)`: reshaped to `shape`, which is `(places of the map that a node
        feeds, nodes, nodes above)`, and repeated along the second axis, the kernel of the next
        layer has one row for each node.

    Raises:
        ValueError: If the steps between the two mix the nodes, or their order is not known.
    """
    block, above = chain.blocks[place], chain.blocks[place + 1]
    nodes = block.shape[-1]
    for layer in [block.layer, *(step.layer for step in block.steps), above.layer]:
        if getattr(layer, "data_format", None) == "channels_first":
            raise ValueError(_refusal(block, layer, "its channels come first. Use channels_last"))
    # Along the way the flattened index modulo `nodes` tells the node.
    for step in block.steps:
        same = not step.moves and step.input_shape == step.output_shape
        keeps_channels = (
            step.input_shape[-1] == step.output_shape[-1] and step.input_shape[-1] % nodes == 0
        )
        if isinstance(step.layer, layers.Permute) or not (
            same or keeps_channels or isinstance(step.layer, (layers.Flatten, layers.Reshape))
        ):
            raise ValueError(
                _refusal(block, step.layer, "it mixes the nodes. Put the nodes on the last axis")
            )
    inputs, outputs = above.layer.kernel.shape[-2:]
    if getattr(above.layer, "groups", 1) > 1:
        raise ValueError(_refusal(block, above.layer, "its channels form `groups`. Use groups=1"))
    if inputs % nodes == 0:
        return (-1, nodes, outputs), 1
    if nodes % inputs == 0:
        return (-1, inputs, outputs), nodes // inputs
    raise ValueError(
        _refusal(block, above.layer, f"its {inputs} inputs do not divide among {nodes} nodes")
    )


def _refusal(block, layer, reason):
    return (
        "`DirectFeedbackAlignment` with a `modulation` cannot tell which weights leave the nodes "
        f"of layer '{block.layer.name}': between it and the next layer with a kernel stands "
        f"'{layer.name}' of type {type(layer).__name__}: {reason}, or modulation=None."
    )
