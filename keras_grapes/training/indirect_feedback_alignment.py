"""Indirect feedback alignment: the output error goes to the first hidden layer, then forward."""

import keras
import tensorflow as tf
from keras import ops

from keras_grapes.training.feedback import FeedbackModel, project, projection_shape, send_error


@keras.saving.register_keras_serializable(package="keras_grapes")
class IndirectFeedbackAlignment(FeedbackModel):
    __doc__ = "TBD"

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
            for below, above in zip(hidden, hidden[1:]):
                delta = below.tape.gradient(below.output, below.pre_activation, arriving[-1])
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
