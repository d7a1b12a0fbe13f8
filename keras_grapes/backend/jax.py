"""The functions of `keras_grapes.backend` on JAX; `tensorflow.py` tells what they are for."""

import functools

import jax
import jax.numpy as jnp
import keras


class _Inner(keras.StatelessScope):
    """Scope within a traced function, whose assignments are handed out of it by hand.

    An assignment must not leave the trace in which its value was computed: `jax.grad` and its kin
    trace the function that they are given.
    """

    def __init__(self, state_mapping=None):
        super().__init__(state_mapping)
        self.assigned = {}

    def get_current_value(self, variable):
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            value = self.original_scope.get_current_value(variable)
        return value

    def add_update(self, update):
        super().add_update(update)
        variable, value = update
        self.assigned[id(variable)] = variable, value


def _handing_out(function, assigned, given=lambda *inputs: ([], inputs)):
    """Returns a function of the same inputs that returns `(outputs, assigned values)`.

    Args:
        function: Function of tensors.
        assigned: List that gets the variables of the assigned values.
        given: Function from the inputs to the values that variables have in `function`, as a list
            of pairs, and the inputs of `function`. Defaults to no such variables.
    """

    def run(*inputs):
        mapping, inputs = given(*inputs)
        with _Inner(mapping) as scope:
            outputs = function(*inputs)
        assigned[:] = [variable for variable, _ in scope.assigned.values()]
        return outputs, [value for _, value in scope.assigned.values()]

    return run


def _assign(variables, values):
    for variable, value in zip(variables, values):
        variable.assign(value)


def _differentiable(tensor):
    return jnp.issubdtype(tensor.dtype, jnp.inexact)


def _error_like(error, tensor):
    """An error as the primal has it: JAX has none for whole numbers."""
    return jnp.zeros_like(tensor) if error.dtype == jax.dtypes.float0 else error


@jax.custom_vjp
def _once(errors, inputs):
    """Returns the errors; it cannot be differentiated by the inputs that they are errors of."""
    return errors


def _once_forward(errors, inputs):
    if any(x.perturbed for x in inputs):
        raise NotImplementedError(
            "On JAX the loop over time of spiking units cannot be differentiated twice. Use "
            "`unroll=True` for second derivatives, such as those of a gradient penalty."
        )
    return [error.value for error in errors], [None] * len(inputs)


_once.defvjp(_once_forward, lambda none, errors: (errors, none), symbolic_zeros=True)


def custom_gradient(function, once=False):
    @functools.wraps(function)
    def call(*inputs):
        inputs = [keras.ops.convert_to_tensor(x) for x in inputs]
        outputs, backward = function(*[jax.lax.stop_gradient(x) for x in inputs])
        flat = [jax.lax.stop_gradient(y) for y in keras.tree.flatten(outputs)]
        # What `backward` has at hand besides the errors may depend on what is differentiated, and
        # JAX wants to be told of it.
        pull, held = jax.closure_convert(lambda *errors: tuple(backward(*errors)), *flat)
        held = [jax.lax.stop_gradient(x) for x in held]

        @jax.custom_vjp
        def send_errors(outputs, inputs, held):
            return outputs

        def forward(outputs, inputs, held):
            return outputs, (held, inputs if once else [])

        def back(residuals, errors):
            held, inputs_again = residuals
            found = list(pull(*errors, *held))
            if once:
                found = _once(found, inputs_again)
            found = [e if _differentiable(x) else None for e, x in zip(found, inputs, strict=True)]
            return [None] * len(flat), found, [None] * len(held)

        send_errors.defvjp(forward, back)
        return keras.tree.pack_sequence_as(outputs, send_errors(flat, inputs, held))

    return call


def vjp(function, *inputs):
    inputs = [keras.ops.convert_to_tensor(x) for x in inputs]
    assigned = []
    run = _handing_out(function, assigned)
    # Once for the outputs and once for the pullback, which XLA makes one again: the outputs that
    # `jax.vjp` returns have lost the custom gradients in them.
    outputs, values = run(*inputs)
    constant = [jax.lax.stop_gradient(x) for x in inputs]
    _, pull, _ = jax.vjp(run, *constant, has_aux=True)
    _assign(assigned, values)

    def pullback(*errors):
        found = pull(keras.tree.pack_sequence_as(outputs, list(errors)))
        return tuple(_error_like(error, x) for error, x in zip(found, inputs))

    return outputs, pullback


def jvp(function, inputs, tangents):
    outputs, pullback = vjp(function, *inputs)
    # The pullback is linear in the errors, and its own pullback is the push forward. `jax.jvp`
    # would refuse functions with a gradient of their own.
    zeros = [jnp.zeros_like(y) for y in keras.tree.flatten(outputs)]
    _, push = jax.vjp(pullback, *zeros)
    return outputs, keras.tree.pack_sequence_as(outputs, list(push(tuple(tangents))))


def gradients(loss, variables):
    assigned = []
    run = _handing_out(loss, assigned, lambda values: (list(zip(variables, values)), ()))
    values = [variable.value for variable in variables]
    (value, assigned_values), found = jax.value_and_grad(run, has_aux=True)(values)
    _assign(assigned, assigned_values)
    return value, found


def identity(tensor, after=()):
    # XLA orders the operations by itself.
    return keras.ops.convert_to_tensor(tensor)


def loop_over_time(step, state, range_, record, steps=1):
    first, length, stride = range_
    blocks = first + stride * jnp.arange(length)
    state = [keras.ops.convert_to_tensor(each) for each in state]

    def body(state, block):
        state, added = step(block, list(state))
        return tuple(state), [jnp.stack(tensors) for tensors in added]

    def joined(entry, added):
        added = added[::stride].reshape(length * steps, *added.shape[2:])
        return jnp.concatenate([entry[None], added])

    state, added = jax.lax.scan(body, tuple(state), blocks)
    return list(state), [joined(*each) for each in zip(record, added, strict=True)]


def can_compile():
    return False


def compiled(function):
    return function


def lacks_derivatives_of_forward():
    return False


def differentiated_as(function, values):
    return values


def eagerly():
    return jax.ensure_compile_time_eval()


def _generator(key):
    return jax.random.wrap_key_data(jnp.asarray(key).astype("uint32"), impl="threefry2x32")


def random_uniform(shape, key):
    return jax.random.uniform(_generator(key), shape, "float32")


def random_normal(shape, stddev, key):
    return stddev * jax.random.normal(_generator(key), shape, "float32")


def key_of_step(key, tensor):
    # Keras's step on JAX hands on the state of the optimizer alone.
    bits = jax.lax.bitcast_convert_type(tensor.astype("float32"), "uint32")
    return jnp.asarray(key).astype("uint32").at[1].add(jnp.sum(bits, dtype="uint32"))


def is_variable(value):
    return isinstance(value, keras.Variable)


def variable_key(variable):
    # The array in a variable is another one after each step.
    return id(variable)


def is_sparse_gradient(gradient):
    # Arrays of `jax.experimental.sparse` have indices; those of JAX have not.
    return hasattr(gradient, "indices")


def update_one_by_one(optimizer):
    pass  # It does already.


def checkpointed(**variables):
    return None


def is_compiled():
    # Loops always are.
    return True


def has_values(tensor):
    return not isinstance(tensor, jax.core.Tracer)


def runs_eagerly():
    return not isinstance(jnp.zeros(()), jax.core.Tracer)


def changes_state_by(function, shape, dtype):
    def assigned_values(tensor):
        with _Inner() as scope:
            function(tensor)
        return [value for _, value in scope.assigned.values()]

    tensor = jax.ShapeDtypeStruct(tuple(shape), dtype)
    program = jax.make_jaxpr(assigned_values)(tensor).jaxpr
    reached = set(program.invars)
    for equation in program.eqns:
        if reached & {v for v in equation.invars if not hasattr(v, "val")}:
            reached.update(equation.outvars)
    return any(v in reached for v in program.outvars if not hasattr(v, "val"))


def checked(tensor, condition, message):
    # All that has no values is compiled.
    return tensor
