"""Feedback alignment: each error goes one layer down, through a fixed random kernel."""

import keras
import tensorflow as tf
from keras import ops

from keras_grapes.training.feedback import FeedbackModel, send_error


@keras.saving.register_keras_serializable(package="keras_grapes")
class FeedbackAlignment(FeedbackModel):
    __doc__ = "TBD"

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
