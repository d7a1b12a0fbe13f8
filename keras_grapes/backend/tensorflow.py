"""The functions of `keras_grapes.backend` on TensorFlow."""

import functools
import weakref

import keras
import tensorflow as tf


def custom_gradient(function, once=False):
    """Gives a function of tensors a backward pass of its own.

    Args:
        function: Function of positional tensors that returns `(outputs, backward)`. `outputs` is
            a tensor or a tuple of them; `backward` takes one error for each output and returns a
            tuple with one error for each input, `None` for one that gets none. No variables are
            read in it.
        once: Bool, whether second derivatives fail, rather than take what `backward` has at hand
            as constant, on JAX, where it is. Defaults to `False`.

    Returns:
        Function of the same tensors that returns `outputs`.
    """

    @tf.custom_gradient
    def wrapped(*inputs):
        outputs, backward = function(*inputs)

        def grad(*errors):
            return tuple(backward(*errors))

        return outputs, grad

    return wrapped


def vjp(function, *inputs):
    """Returns `(outputs, pullback)` of a function of tensors.

    `pullback` takes one error for each output and returns a tuple with one error for each input,
    zeros where an input has no effect.
    """
    inputs = [tf.identity(x) for x in inputs]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        outputs = function(*inputs)

    def pullback(*errors):
        flat = keras.tree.flatten(outputs)
        found = tape.gradient(
            flat, inputs, list(errors), unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return tuple(found)

    return outputs, pullback


def jvp(function, inputs, tangents):
    """Returns `(outputs, tangents of the outputs)` of a function of tensors."""
    inputs = [tf.identity(x) for x in inputs]
    with tf.autodiff.ForwardAccumulator(inputs, list(tangents)) as accumulator:
        outputs = function(*inputs)
    pushed = keras.tree.map_structure(
        lambda y: accumulator.jvp(y, unconnected_gradients=tf.UnconnectedGradients.ZERO), outputs
    )
    return outputs, pushed


def gradients(loss, variables):
    """Returns the value of a function without arguments and its gradients by variables.

    A gradient is `None`, or zeros on JAX, where the loss does not depend on the variable.
    """
    with tf.GradientTape() as tape:
        value = loss()
    # Keras's variables hold TensorFlow's.
    return value, tape.gradient(value, [getattr(v, "value", v) for v in variables])


def identity(tensor, after=()):
    """Returns a tensor as it is, computed once the tensors in `after` are."""
    with tf.control_dependencies(list(after)):
        return tf.identity(tensor)


def loop_over_time(step, state, range_, record, steps=1):
    """Runs a function over blocks of time steps.

    `keras.ops.scan` records all of its state, and copies the inputs into another layout first;
    both cost more here than the steps themselves.

    Args:
        step: Function of (block number, state) that returns the new state and, for each record, a
            list of what the steps of the block add to it, in the order of time. It reads its
            inputs by the number, an int or an int tensor.
        state: List of tensors, the state at first.
        range_: Tuple of ints or int tensors: the first block, the number of blocks, and 1 or -1.
        record: List of tensors, what each record has ahead of the first step.
        steps: Int, the number of steps of a block. Defaults to 1.

    Returns:
        The last state, a list, and a list of the records: tensors with time as the first axis, one
        entry longer than there are steps.
    """
    first, length, stride = range_
    records = tuple(
        tf.TensorArray(tensor.dtype, size=length * steps + 1, element_shape=tensor.shape).write(
            0, tensor
        )
        for tensor in record
    )

    def advance(block, state, records):
        state, added = step(block, list(state))
        records = list(records)
        for place, tensors in enumerate(added):
            for count, tensor in enumerate(tensors):
                records[place] = records[place].write(block * steps + count + 1, tensor)
        return tuple(state), tuple(records)

    def body(count, block, state, records):
        return count + 1, block + stride, *advance(block, state, records)

    if isinstance(length, int) and length == 1:
        state, records = advance(first, tuple(state), records)
    else:
        _, _, state, records = tf.while_loop(
            lambda count, *_: count < length,
            body,
            (0, first, tuple(state), records),
            maximum_iterations=length,
        )
    # As tensors: of a `TensorArray` no SavedModel can keep what a custom gradient takes from it.
    return list(state), [r.stack() for r in records]


def checked(tensor, condition, message):
    """Returns a tensor as it is; where a condition does not hold, running it fails.

    Code that XLA compiles cannot fail: there the condition is not looked at.

    Args:
        tensor: Tensor.
        condition: Scalar bool tensor.
        message: List of strings and scalar tensors.
    """
    if is_compiled():
        return tensor
    check = tf.raw_ops.Assert(condition=condition, data=message, summarize=1)
    # Without a graph it has run, and has failed where it had to.
    return tensor if check is None else identity(tensor, after=[check])


_compiled_graphs: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def is_compiled():
    """Whether a graph is being made that XLA compiles as a whole."""
    if not tf.inside_function():
        return False
    graph = tf.compat.v1.get_default_graph()
    if graph not in _compiled_graphs:
        _compiled_graphs[graph] = _is_compiled()
    return _compiled_graphs[graph]


def _is_compiled():
    # TensorFlow tells it nowhere else: outside XLA it marks conditionals, to run one branch alone.
    conditional = tf.cond(tf.zeros((), "bool"), lambda: tf.zeros(()), lambda: tf.ones(())).op
    while conditional.type == "Identity":
        conditional = conditional.inputs[0].op
    try:
        return not conditional.get_attr("_lower_using_switch_merge")
    except ValueError:
        return True


def can_compile():
    """Whether a part of the graph that is being made can be compiled on its own.

    Where operations run at once, and where the graph is compiled as a whole, there is none.
    """
    return tf.inside_function() and not is_compiled() and _has_xla()


def compiled(function):
    """Returns a function of structures of tensors that is compiled, to be used if `can_compile()`.

    It compiles anew for every shape, and the compiled function has no derivatives.
    """
    fused = tf.function(function, jit_compile=True, autograph=False)

    def run(*inputs):
        # Under a tape a call would also hand out what its derivatives need, which XLA cannot do.
        return fused(*keras.tree.map_structure(tf.stop_gradient, inputs))

    return run


def lacks_derivatives_of_forward():
    """Whether a backward pass is itself recorded, and what it holds of the forward pass is not.

    So it is on PyTorch where second derivatives are asked for.
    """
    return False


def differentiated_as(function, values):
    """Returns `values` with the derivatives of `function`, for second derivatives.

    Both are functions of the same structures of tensors and have the same outputs; `values` may
    have no derivatives, or wrong ones. On JAX and PyTorch what is in a custom gradient has none,
    and `values` is returned as it is.
    """

    def run(*inputs):
        outputs = []

        def flat(function):
            def flattened(*tensors):
                outputs[:] = [function(*keras.tree.pack_sequence_as(inputs, tensors))]
                return tuple(keras.tree.flatten(outputs[0]))

            return flattened

        @custom_gradient
        def apart(*tensors):
            def backward(*errors):
                return vjp(flat(function), *tensors)[1](*errors)

            return flat(values)(*tensors), backward

        found = apart(*keras.tree.flatten(inputs))
        return keras.tree.pack_sequence_as(outputs[0], found)

    return run


@functools.lru_cache
def _has_xla():
    with tf.init_scope():
        try:
            tf.function(lambda: tf.zeros(()), jit_compile=True)()
        except tf.errors.OpError:
            return False
    return True


def eagerly():
    """A context in which operations run at once, also while a graph is being made."""
    return tf.init_scope()


# Philox: the generator that XLA takes by itself on a CPU needs a hundred times as long.


def random_uniform(shape, key):
    """Draws float32 numbers from 0 to below 1 by a key of two ints."""
    return tf.random.stateless_uniform(shape, tf.cast(key, "int64"), alg="philox")


def random_normal(shape, stddev, key):
    """Draws float32 numbers of mean 0, normally distributed, by a key of two ints."""
    return tf.random.stateless_normal(shape, tf.cast(key, "int64"), stddev=stddev, alg="philox")


def key_of_step(key, tensor):
    """Returns a key of two ints for the draws in one step of an optimizer.

    Where the optimizer's step loses the state of a seed generator, `key` is the same in every step,
    and it is mixed with the bits of a tensor that is not.
    """
    return key


def is_variable(value):
    """Whether it is a variable of Keras or of the backend."""
    return isinstance(value, (keras.Variable, tf.Variable))


def variable_key(variable):
    """A key that a variable of Keras and the one of the backend within it share.

    It is valid as long as the variable lives.
    """
    return id(variable.value) if isinstance(variable, keras.Variable) else id(variable)


def is_sparse_gradient(gradient):
    """Whether a gradient has rows for some indices alone, as that of an `Embedding`."""
    return isinstance(gradient, tf.IndexedSlices)


def update_one_by_one(optimizer):
    """Has an optimizer of Keras update its variables one by one, by its `update_step`.

    Where a backend updates all of them together, `update_step` is not called there.
    """


def checkpointed(**variables):
    """An object to keep as an attribute, by which checkpoints of the backend find variables.

    It is `None` on backends whose checkpoints look for variables where Keras has them.
    """
    return tf.train.Checkpoint(**variables)


def runs_eagerly():
    """Whether operations run at once, and not as part of a graph that is being made."""
    return tf.executing_eagerly()


def changes_state_by(function, shape, dtype):
    """Whether what a function of one tensor writes into variables depends on the tensor.

    The function is traced and not run. With several replicas, where a variable is written to from
    outside of the function, the answer is always `True`.

    Args:
        function: Function of a tensor.
        shape, dtype: Those of the tensor.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        return True
    with tf.init_scope():
        traced = tf.function(function, autograph=False).get_concrete_function(
            tf.TensorSpec(shape, dtype)
        )
    reached, pending = set(), list(traced.inputs[0].consumers())
    while pending:
        operation = pending.pop()
        if operation.name in reached:
            continue
        reached.add(operation.name)
        if any(tensor.dtype == tf.resource for tensor in operation.inputs):
            return True
        pending.extend(c for output in operation.outputs for c in output.consumers())
    return False


def has_values(tensor):
    """Whether the values of a tensor are there to be looked at, as outside of graphs."""
    return hasattr(tensor, "numpy")
