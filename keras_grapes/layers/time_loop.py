"""A loop over time that keeps what it is asked to keep."""

import tensorflow as tf


def loop_over_time(step, state, range_, record):
    """Runs a function once per time step.

    `keras.ops.scan` records all of its state, and copies the inputs into another layout first;
    both cost more here than the steps themselves.

    Args:
        step: Function of (time, state) that returns the new state and a tensor to record. It reads
            its inputs at `time`, an int tensor.
        state: List of tensors, the state at first.
        range_: Tuple of ints or int tensors: the first time, the number of steps, and 1 or -1.
        record: Tensor of the shape and dtype of what `step` records.

    Returns:
        The last state, and the records of all times, with time as the first axis.
    """
    first, length, stride = range_

    def body(count, time, state, records):
        state, recorded = step(time, state)
        return count + 1, time + stride, tuple(state), records.write(time, recorded)

    records = tf.TensorArray(record.dtype, size=length, element_shape=record.shape)
    _, _, state, records = tf.while_loop(
        lambda count, *_: count < length,
        body,
        (0, first, tuple(state), records),
        maximum_iterations=length,
    )
    return state, records.stack()


def compiled(function):
    """Returns a function without arguments that XLA compiles where a graph is being made.

    In a graph that is compiled as a whole it makes no difference.
    """
    if tf.inside_function():
        return tf.function(function, jit_compile=True, autograph=False)
    return function
