"""The layers of a model as a graph: which layer call feeds which.

The one place that reads how Keras records a model's graph.
"""

import keras


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


def _calls_its_graph(model):
    if {"call", "__call__"} & set(vars(model)):
        return False
    return all(
        _owner(type(model), method).__module__.split(".")[0] == "keras"
        for method in ("call", "__call__")
    )


def _owner(cls, method):
    """The class that a class has a method from."""
    return next(base for base in cls.__mro__ if method in vars(base))


def sublayers(layer):
    """Direct sublayers of a layer, in the order of their creation."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def all_layers(layer):
    """All sublayers of a layer at every depth; none of a plain operation."""
    if not isinstance(layer, keras.layers.Layer):
        return []
    return layer._flatten_layers(include_self=False, recursive=True)


def leaf_layers(model):
    """Layers of a model with nested models opened, each once, in the order of the graph."""
    leaves = {}
    for layer in sublayers(model):
        inner = leaf_layers(layer) if has_graph(layer) else [layer]
        leaves.update((id(leaf), leaf) for leaf in inner)
    return list(leaves.values())


def new_inputs(model):
    """Returns inputs for a copy of a Functional model, in the same structure and with its names.

    Keras's own copies of inputs have other names where the user gave none.
    """

    def new_input(tensor):
        layer = tensor._keras_history[0]
        name = layer.name if isinstance(layer, keras.layers.InputLayer) else tensor.name
        return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)

    return keras.tree.map_structure(new_input, model.input)


def tensor_name(tensor):
    """Name of an input or output of a model: that of the layer it comes from."""
    history = getattr(tensor, "_keras_history", None)
    return tensor.name if history is None else history[0].name


def output_calls(model):
    """Returns the `Call`s that produce a model's outputs, `None` where there is no graph.

    Nested Sequential and Functional models are opened; other layers are single calls.
    """
    if not has_graph(model):
        return None
    outputs = _trace(model, None)
    return [call for calls in outputs for call in calls]


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
        operation, node_index, tensor_index = tensor._keras_history
        node = operation._inbound_nodes[node_index]
        missing = [t for t in node.input_tensors if id(t) not in known]
        if missing:
            pending.extend(missing)
            continue
        if id(node) not in made:
            made[id(node)] = _call(operation, [known[id(t)] for t in node.input_tensors])
        outputs = made[id(node)]
        known[id(tensor)] = outputs[tensor_index if len(outputs) > 1 else 0]
        pending.pop()
    return [known[id(tensor)] for tensor in model.outputs]


def _call(operation, inputs):
    if has_graph(operation):
        return _trace(operation, inputs)
    return [[Call(operation, [call for calls in inputs for call in calls], len(inputs))]]
