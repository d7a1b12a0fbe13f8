"""The functions of `keras_grapes.backend` on PyTorch; `tensorflow.py` tells what they are for."""

import contextlib
import functools

import keras
import torch


def _differentiable(tensor):
    return tensor.is_floating_point() or tensor.is_complex()


def _zeros_for_none(errors, tensors):
    return tuple(
        torch.zeros_like(x) if error is None else error for error, x in zip(errors, tensors)
    )


class _WithBackward(torch.autograd.Function):
    """Runs a function that returns `(outputs, backward)`."""

    @staticmethod
    def forward(context, function, *inputs):
        outputs, context.backward_pass = function(*inputs)
        return tuple(outputs) if isinstance(outputs, list) else outputs

    @staticmethod
    def backward(context, *errors):
        return (None, *context.backward_pass(*errors))


def custom_gradient(function, once=False):
    @functools.wraps(function)
    def call(*inputs):
        inputs = [keras.ops.convert_to_tensor(x) for x in inputs]
        return _WithBackward.apply(function, *inputs)

    return call


def _record(function, inputs):
    """Returns a function's outputs, and the inputs by which they can be differentiated."""
    with torch.enable_grad():
        inputs = [keras.ops.convert_to_tensor(x) for x in inputs]
        # A view of its own, which is connected to what the input was computed from.
        inputs = [x.view_as(x) if _differentiable(x) else x for x in inputs]
        for x in inputs:
            if _differentiable(x) and not x.requires_grad:
                x.requires_grad_()
        return function(*inputs), inputs


def _pull(outputs, inputs, errors, create_graph):
    reached = [(y, e) for y, e in zip(outputs, errors) if y.requires_grad]
    sources = [x for x in inputs if x.requires_grad]
    found = [None] * len(sources)
    if reached and sources:
        found = torch.autograd.grad(
            [y for y, _ in reached],
            sources,
            [e for _, e in reached],
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )
    found = iter(found)
    return _zeros_for_none([next(found) if x.requires_grad else None for x in inputs], inputs)


def _outside(outputs):
    """The outputs for use where no gradients may be recorded."""
    if torch.is_grad_enabled():
        return outputs
    return keras.tree.map_structure(lambda y: y.detach(), outputs)


def vjp(function, *inputs):
    outputs, inputs = _record(function, inputs)
    flat = keras.tree.flatten(outputs)

    def pullback(*errors):
        return _pull(flat, inputs, errors, create_graph=torch.is_grad_enabled())

    return _outside(outputs), pullback


def jvp(function, inputs, tangents):
    outputs, inputs = _record(function, inputs)
    flat = keras.tree.flatten(outputs)
    # The pullback is linear in the errors, and its own pullback is the push forward.
    errors = [torch.zeros_like(y, requires_grad=_differentiable(y)) for y in flat]
    with torch.enable_grad():
        pulled = _pull(flat, inputs, errors, create_graph=True)
    pushed = _pull(pulled, errors, tangents, create_graph=torch.is_grad_enabled())
    return _outside(outputs), keras.tree.pack_sequence_as(outputs, list(pushed))


def gradients(loss, variables):
    with torch.enable_grad():
        value = loss()
        sources = [keras.ops.convert_to_tensor(variable) for variable in variables]
    found = iter(())
    trained = [x for x in sources if x.requires_grad]
    if trained and value.requires_grad:
        found = iter(torch.autograd.grad(value, trained, allow_unused=True))
    return value.detach(), [next(found, None) if x.requires_grad else None for x in sources]


def identity(tensor, after=()):
    # Everything runs in the order in which it is written.
    return keras.ops.convert_to_tensor(tensor)


def loop_over_time(step, state, range_, record, steps=1):
    first, length, stride = range_
    blocks = []
    for count in range(int(length)):
        state, added = step(int(first) + stride * count, list(state))
        blocks.append(added)
    records = []
    for place, entry in enumerate(record):
        tensors = [tensor for block in blocks[::stride] for tensor in block[place]]
        records.append(torch.stack([entry, *tensors]))
    return list(state), records


def can_compile():
    return False


def compiled(function):
    return function


def lacks_derivatives_of_forward():
    return torch.is_grad_enabled()


def differentiated_as(function, values):
    return values


def eagerly():
    # Shapes are inferred on a device without values.
    on_meta = keras.ops.zeros(()).device.type == "meta"
    return keras.device("cpu") if on_meta else contextlib.nullcontext()


def _draw(draw, shape, key):
    shape = tuple(int(size) for size in shape)
    device = keras.ops.zeros(()).device
    if device.type == "meta":
        return torch.empty(shape, device=device)
    first, second = (int(each) for each in key)
    generator = torch.Generator(device=device)
    # On a CPU 32 bits count. Odd factors keep apart what differs in one of the two.
    generator.manual_seed((first * 0x9E3779B1 + second * 0x85EBCA77) & 0xFFFFFFFF)
    return draw(shape, generator=generator, device=device, dtype=torch.float32)


def random_uniform(shape, key):
    return _draw(torch.rand, shape, key)


def random_normal(shape, stddev, key):
    return stddev * _draw(torch.randn, shape, key)


def key_of_step(key, tensor):
    return key


def is_variable(value):
    return isinstance(value, (keras.Variable, torch.nn.Parameter))


def variable_key(variable):
    return id(variable)


def is_sparse_gradient(gradient):
    return gradient.is_sparse


def update_one_by_one(optimizer):
    cls = type(optimizer)
    if not hasattr(cls, "_parallel_update_step"):
        return
    # Keras's optimizers on PyTorch update all variables together. What they do elsewhere comes
    # behind the class that has them do so.
    parallel = next(c for c in cls.__mro__ if "_backend_update_step" in vars(c))

    @torch.no_grad()
    def update(gradients, variables, learning_rate):
        super(parallel, optimizer)._backend_update_step(gradients, variables, learning_rate)

    optimizer._backend_update_step = update


def checkpointed(**variables):
    return None


def is_compiled():
    return False


def has_values(tensor):
    return tensor.device.type != "meta" and not torch.compiler.is_compiling()


def runs_eagerly():
    return has_values(keras.ops.zeros(()))


def changes_state_by(function, shape, dtype):
    written = []

    class Scope(keras.StatelessScope):
        def add_update(self, update):
            super().add_update(update)
            written.append(update[1])

    with torch.enable_grad(), Scope():
        tensor = keras.ops.zeros(shape, dtype).requires_grad_()
        function(tensor)
    connected = [value for value in written if value.requires_grad]
    if not connected:
        return False
    return any(
        torch.autograd.grad(value.sum(), tensor, allow_unused=True, retain_graph=True)[0]
        is not None
        for value in connected
    )


def checked(tensor, condition, message):
    # Where there are no values nothing can be looked at.
    return tensor
