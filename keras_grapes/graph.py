"""The layers of a model as a graph: which layer call feeds which."""

import heapq
import inspect

import keras

from keras_grapes import keras_hooks
from keras_grapes.keras_hooks import sublayers

__all__ = []


class Call:
    """One call of one layer.

    Attributes:
        layer: The layer, or the `keras.Operation` of a plain operation such as `x + y`.
        inputs: List of the `Call`s whose outputs it takes.
        input_count: Int, how many tensors it takes, those of the model's inputs among them.
    """

    def __init__(self, layer, inputs, input_count):
        self.layer = layer
        self.inputs = inputs
        self.input_count = input_count


def has_graph(model):
    """Whether a model is the graph of its layers: a Sequential or Functional model.

    A class of them that has a `call` of its own is more than that graph, or something else.
    """
    return is_functional(model) and _calls_its_graph(model)


def is_functional(model):
    """Whether it is a Sequential or Functional model, or of a class of them."""
    return isinstance(model, (keras.Sequential, keras.Function))


def can_be_rebuilt(model):
    """Whether a model is the graph of its layers, of a class that takes just that graph.

    Keras's own classes do, and those that add methods such as a `train_step` to them.
    """
    if not has_graph(model):
        return False
    spec = inspect.getfullargspec(type(model).__init__)
    given = ["layers", "trainable", "name"]
    if not isinstance(model, keras.Sequential):
        given = ["inputs", "outputs", "name"]
    return spec.args[1:] == given or bool(spec.varargs and spec.varkw)


def _calls_its_graph(model):
    # The `__call__` of KerasHub's tasks does no more than to refuse text.
    return is_keras_method(model, "call") and is_keras_method(model, "__call__", ("keras_hub",))


def is_keras_method(model, name, packages=()):
    """Whether a method of a model is Keras's own, or of one of `packages`."""
    owner = next(base for base in type(model).__mro__ if name in vars(base))
    return name not in vars(model) and owner.__module__.split(".")[0] in ("keras", *packages)


def all_layers(layer):
    """All sublayers of a layer at every depth; none of a plain operation."""
    if not isinstance(layer, keras.layers.Layer):
        return []
    return keras_hooks.all_sublayers(layer)


# Ways back to the graph, and methods that Keras and `ErrorModulation` set on the instance.
_NOT_HELD = (*keras_hooks.GRAPH_ATTRIBUTES, "build", "call", "quantize")
_FRAMEWORKS = ("keras", "tensorflow", "jax", "jaxlib", "torch", "numpy", "builtins")


def held_objects(owner):
    """Lists what an object holds in its attributes, and in the lists, dicts and objects there.

    Objects with a config, such as layers and initializers, and those of classes that are no
    framework's are looked into, at every depth.
    """
    held, seen, pending = [], {id(owner)}, list(attributes(owner).values())
    while pending:
        value = pending.pop()
        plain = value is None or isinstance(value, (bool, int, float, str, bytes, type))
        if plain or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, (list, tuple, set, frozenset)):
            pending.extend(value)
        else:
            held.append(value)
            is_own = type(value).__module__.split(".")[0] not in _FRAMEWORKS
            if is_own or hasattr(value, "get_config"):
                pending.extend(attributes(value).values())
    return held


def attributes(owner):
    """The attributes of an object, without those that lead back to the graph it is in."""
    given = getattr(owner, "__dict__", {})
    return {name: value for name, value in given.items() if name not in _NOT_HELD}


def leaf_layers(model):
    """Layers of a model with nested models opened, each once, in the order of the graph."""
    leaves = {}
    for layer in sublayers(model):
        inner = leaf_layers(layer) if has_graph(layer) else [layer]
        leaves.update((id(leaf), leaf) for leaf in inner)
    return list(leaves.values())


def new_inputs(model):
    """Returns inputs for a copy of a model, in the same structure, with their names and flags.

    Keras's own copies of inputs have other names where the user gave none, and are neither sparse
    nor ragged nor optional.
    """

    def new_input(tensor):
        layer = keras_hooks.maker(tensor)
        flags = {
            flag: True
            for flag in ("sparse", "ragged", "optional")
            if getattr(tensor, flag, False) or getattr(layer, flag, False)
        }
        name = layer.name if isinstance(layer, keras.layers.InputLayer) else tensor.name
        return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name, **flags)

    if isinstance(model, keras.Sequential):
        return new_input(model.inputs[0])
    return keras.tree.map_structure(new_input, model.input)


def tensor_name(tensor):
    """Name of an input or output of a model: that of the layer it comes from."""
    layer = keras_hooks.maker(tensor)
    return tensor.name if layer is None else layer.name


def output_calls(model):
    """Returns the `Call`s that produce a model's outputs, `None` where there is no graph.

    Nested Sequential and Functional models are opened; other layers are single calls.
    """
    if not has_graph(model):
        return None
    outputs = _trace(model, None)
    return [call for calls in outputs for call in calls]


def output_widths(layer):
    """The sizes of the last axis of what a layer returns, where its calls are part of a graph."""
    calls = keras_hooks.recorded_calls(layer)
    tensors = [tensor for node in calls for tensor in node.output_tensors]
    return {tensor.shape[-1] for tensor in tensors if len(tensor.shape) > 0}


def reached_first(outputs, is_target):
    """Layers for which `is_target` holds and that reach `outputs` through no other such layer."""
    reached, seen, pending = {}, set(), list(outputs)
    while pending:
        call = pending.pop()
        if id(call) in seen:
            continue
        seen.add(id(call))
        if is_target(call.layer):
            reached[id(call.layer)] = call.layer
        else:
            pending.extend(call.inputs)
    return list(reached.values())


def all_calls(outputs):
    """Lists the calls that `outputs` depend on, every call after the calls that take its output."""
    order, seen, pending = [], set(), [(call, False) for call in outputs]
    while pending:
        call, expanded = pending.pop()
        if expanded:
            order.append(call)
        elif id(call) not in seen:
            seen.add(id(call))
            pending.append((call, True))
            pending.extend((source, False) for source in call.inputs)
    return order[::-1]


def _trace(model, inputs):
    """For each output of `model`, the list of calls that produce it.

    `inputs` has such a list for each input of the model; `None` stands for a root model.
    """
    if isinstance(model, keras.Sequential):
        calls = inputs[0] if inputs else []
        for layer in model.layers:
            calls = _call(layer, [calls])[0]
        return [calls]
    feeds = inputs or [[] for _ in model.inputs]
    made = {}
    known = {id(tensor): calls for tensor, calls in zip(model.inputs, feeds)}
    # An explicit stack: deep networks exceed Python's recursion limit.
    pending = list(model.outputs)
    while pending:
        tensor = pending[-1]
        if id(tensor) in known:
            pending.pop()
            continue
        node, tensor_index = keras_hooks.node_of(tensor)
        missing = [t for t in node.input_tensors if id(t) not in known]
        if missing:
            pending.extend(missing)
            continue
        if id(node) not in made:
            made[id(node)] = _call(node.operation, [known[id(t)] for t in node.input_tensors])
        outputs = made[id(node)]
        known[id(tensor)] = outputs[tensor_index if len(outputs) > 1 else 0]
        pending.pop()
    return [known[id(tensor)] for tensor in model.outputs]


def _call(operation, inputs):
    if has_graph(operation):
        return _trace(operation, inputs)
    return [[Call(operation, [call for calls in inputs for call in calls], len(inputs))]]


def keras_2_hint(value):
    """A sentence for the message about an object of Keras 2; empty for any other."""
    if type(value).__module__.split(".")[0] in ("tf_keras", "tf_keras_2") or (
        type(value).__module__.startswith("tensorflow.python.keras")
    ):
        return ". That is an object of Keras 2: make it with `import keras`, which is Keras 3"
    return ""


class Slot:
    """The place of a tensor in a `Program`, with its shape and dtype."""

    def __init__(self, tensor):
        self.shape = tuple(tensor.shape)
        self.dtype = tensor.dtype


class Step:
    """One call of an operation in a `Program`.

    Attributes:
        operation: The layer, or the `keras.Operation` of a plain operation such as `x + y`.
        args: Tuple of its positional arguments, with `Slot`s in place of tensors.
        kwargs: Dict of its keyword arguments likewise, `training` left out.
        outputs: List of the `Slot`s of its outputs.
        training: What was recorded for `training`, or `None`.
    """

    def __init__(self, operation, args, kwargs, outputs):
        self.operation = operation
        self.args = args
        self.kwargs = dict(kwargs)
        self.outputs = outputs
        self.training = None
        if isinstance(operation, keras.layers.Layer):
            self.training = self.kwargs.pop("training", None)

    @property
    def inputs(self):
        """List of the `Slot`s that it takes."""
        flat = keras.tree.flatten((self.args, self.kwargs))
        return [value for value in flat if isinstance(value, Slot)]

    def arguments(self, values):
        """Returns `(args, kwargs)` with tensors in place of the `Slot`s, looked up in a dict."""

        def fill(value):
            return values[value] if isinstance(value, Slot) else value

        return keras.tree.map_structure(fill, (self.args, self.kwargs))


class Program:
    """A model as the list of the calls that it makes, nested models opened.

    The calls of one model come in the order of its `layers`.

    Attributes:
        inputs: List of `Slot`s.
        steps: List of `Step`s.
        outputs: List of `Slot`s.
    """

    def __init__(self, model):
        self.steps = []
        self.inputs = [Slot(tensor) for tensor in model.inputs]
        self.outputs = self._open(model, self.inputs, exact=True)

    def _open(self, model, inputs, exact):
        slot_of = {id(tensor): slot for tensor, slot in zip(model.inputs, inputs)}
        for node in _nodes_in_order(model):

            def slot(value):
                return slot_of[id(value)] if isinstance(value, keras.KerasTensor) else value

            args, kwargs = node.arguments.convert(slot)
            if has_graph(node.operation):
                outputs = self._call(node.operation, args, kwargs, exact)
            else:
                outputs = [Slot(tensor) for tensor in node.outputs]
                step = Step(node.operation, args, kwargs, outputs)
                if not exact:
                    step.outputs = outputs = _infer(step)
                self.steps.append(step)
            slot_of.update((id(tensor), made) for tensor, made in zip(node.outputs, outputs))
        return [slot_of[id(tensor)] for tensor in model.outputs]

    def _call(self, model, args, kwargs, exact):
        """Opens a call of a nested model."""
        given = args[0] if args else kwargs.get("inputs")
        if isinstance(given, dict) and not isinstance(structures(model)[0], dict):
            given = [given[tensor_name(tensor)] for tensor in model.inputs]
        masks = keras.tree.flatten(kwargs.get("mask"))
        inputs = []
        for index, (slot, tensor) in enumerate(zip(keras.tree.flatten(given), model.inputs)):
            mask = masks[index] if index < len(masks) else None
            if mask is not None or slot.dtype != tensor.dtype:
                entry = Slot(tensor)
                entry.shape = slot.shape
                self.steps.append(Step(Entry(tensor.dtype), (slot,), {"mask": mask}, [entry]))
                slot = entry
            exact = exact and slot.shape == tuple(tensor.shape)
            inputs.append(slot)
        return self._open(model, inputs, exact)


class Entry(keras.layers.Layer):
    """What a Functional model does with an input: casts it, and hands on its mask."""

    def __init__(self, input_dtype):
        super().__init__(autocast=False)
        self.supports_masking = True
        self.input_type = input_dtype

    def call(self, inputs, mask=None):
        return keras.ops.cast(inputs, self.input_type)


def structures(model):
    """Returns the structures of a model's inputs and of its outputs, of tensors."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0], model.outputs[0]
    return model.input, model.output


def is_optional(tensor):
    """Whether an input of a model may be left out."""
    return getattr(keras_hooks.maker(tensor), "optional", False)


def _infer(step):
    """Slots of the outputs of a step for inputs of other shapes than those recorded."""

    def spec(value):
        return keras.KerasTensor(value.shape, value.dtype) if isinstance(value, Slot) else value

    args, kwargs = keras.tree.map_structure(spec, (step.args, step.kwargs))
    outputs = step.operation.compute_output_spec(*args, **kwargs)
    return [Slot(tensor) for tensor in keras.tree.flatten(outputs)]


def _nodes_in_order(model):
    """Lists the recorded calls of a model that its outputs depend on, in the order of its layers.

    A call comes after those that it depends on, also where a layer is called several times.
    """
    given = {id(tensor) for tensor in model.inputs}
    waits_for, needed_by, pending = {}, {}, list(model.outputs)
    nodes = {}
    while pending:
        tensor = pending.pop()
        if id(tensor) in given:
            continue
        node = _node(tensor)
        if id(node) in nodes:
            continue
        nodes[id(node)] = node
        sources = {id(_node(t)) for t in node.input_tensors if id(t) not in given}
        waits_for[id(node)] = len(sources)
        for source in sources:
            needed_by.setdefault(source, []).append(id(node))
        pending.extend(node.input_tensors)

    operations = getattr(model, "operations", model.layers)
    rank = {id(operation): place for place, operation in enumerate(operations)}

    def priority(key):
        node = nodes[key]
        calls = keras_hooks.recorded_calls(node.operation)
        return rank.get(id(node.operation), len(rank)), calls.index(node), key

    ready = [priority(key) for key, count in waits_for.items() if not count]
    heapq.heapify(ready)
    order = []
    while ready:
        *_, key = heapq.heappop(ready)
        order.append(nodes[key])
        for other in needed_by.get(key, []):
            waits_for[other] -= 1
            if not waits_for[other]:
                heapq.heappush(ready, priority(other))
    return order


def _node(tensor):
    """The recorded call that made a tensor."""
    return keras_hooks.node_of(tensor)[0]
