"""A loop over time that keeps what it is asked to keep."""

import tensorflow as tf


def loop_over_time(step, state, range_, records):
    """Runs a function once per time step.

    `keras.ops.scan` records all of its state, and copies the inputs into another layout first;
    both cost more here than the steps themselves.

    Args:
        step: Function of (time, state) that returns the new state and a list of tensors to record.
            It reads its inputs at `time`, an int tensor.
        state: List of tensors, the first state.
        range_: Tuple of ints or int tensors: the first time, the number of steps, and 1 or -1.
        records: Int, how many tensors `step` records; each is shaped as `state[0]`.

    Returns:
        The last state, and a list of the records stacked along a new first axis by time.
    """
    first, length, stride = range_
    state = tuple(state)
    arrays = tuple(
        tf.TensorArray(state[0].dtype, size=length, element_shape=state[0].shape)
        for _ in range(records)
    )

    def body(count, time, state, arrays):
        new, recorded = step(time, state)
        arrays = tuple(array.write(time, value) for array, value in zip(arrays, recorded))
        return count + 1, time + stride, tuple(new), arrays

    _, _, state, arrays = tf.while_loop(
        lambda count, *_: count < length,
        body,
        (0, first, state, arrays),
        maximum_iterations=length,
    )
    return state, [array.stack() for array in arrays]
