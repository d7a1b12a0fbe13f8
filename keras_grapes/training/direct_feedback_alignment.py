"""Direct feedback alignment: the output error goes straight to every hidden layer."""

import keras
from keras import layers, ops

from keras_grapes.training.feedback import FeedbackModel, project, projection_shape, send_error


@keras.saving.register_keras_serializable(package="keras_grapes")
class DirectFeedbackAlignment(FeedbackModel):
    __doc__ = "TBD"

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
            return [project(error, kernel, target) for kernel, target in zip(self._kernels, targets)]

        return send_error(current.pre_activation, targets, errors)

    def _factor(self, place):
        # Presynaptic: a node is as important as the weights that leave it.
        shape, repeats = _leaving_shape(self._chain, place)
        kernel = ops.reshape(self._chain.blocks[place + 1].layer.kernel, shape)
        if repeats > 1:
            kernel = ops.tile(kernel, (1, repeats, 1))
        return self.modulation(kernel, incoming_axes=(0, 2))


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
        same = step.input_shape == step.output_shape
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
