"""A loop over time that keeps what it is asked to keep."""

import tensorflow as tf


def loop_over_time(step, state, range_, records, compiled=False):
    """Runs a function once per time step.

    `keras.ops.scan` records all of its state, and copies the inputs into another layout first;
    both cost more here than the steps themselves.

    Args:
        step: Function of (time, state) that returns the new state and a list of tensors to record.
            It reads its inputs at `time`, an int tensor.
        state: List of tensors with the batch as the first axis, the state at first.
        range_: Tuple of ints or int tensors: the first time, the number of steps, and 1 or -1.
        records: Int, how many tensors `step` records; each is shaped as `state[0]`.
        compiled: Bool, whether XLA compiles the loop, in a graph that it does not compile as a
            whole. Defaults to `False`.

    Returns:
        The last state, and a list of the records of all times, stacked along axis 1.
    """
    first, length, stride = range_

    def body(count, time, state, arrays):
        new, recorded = step(time, state)
        arrays = tuple(array.write(time, value) for array, value in zip(arrays, recorded))
        return count + 1, time + stride, tuple(new), arrays

    def loop(state):
        arrays = tuple(
            tf.TensorArray(state[0].dtype, size=length, element_shape=state[0].shape)
            for _ in range(records)
        )
        _, _, state, arrays = tf.while_loop(
            lambda count, *_: count < length,
            body,
            (0, first, tuple(state), arrays),
            maximum_iterations=length,
        )
        order = (1, 0, *range(2, len(state[0].shape) + 1))
        return state, [tf.transpose(array.stack(), order) for array in arrays]

    if compiled and tf.inside_function():
        loop = tf.function(loop, jit_compile=True, autograph=False)
    return loop(state)
