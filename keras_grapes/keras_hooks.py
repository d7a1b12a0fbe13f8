"""The places where the package relies on what Keras does, but does not document.

Each has a name for what it is for, and `tests/test_keras_hooks.py` pins what Keras must do for it,
also for the methods of Keras that classes of this package override, such as `RNN.inner_loop`. A new
version of Keras that breaks one of them breaks that test first.
"""

import contextlib

import keras

__all__ = []


# How Keras records a model.


def sublayers(layer):
    """Direct sublayers of a layer, in the order of their creation."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def all_sublayers(layer):
    """All sublayers of a layer at every depth."""
    return layer._flatten_layers(include_self=False, recursive=True)


def maker(tensor):
    """The layer or operation that made a symbolic tensor, `None` where none is recorded."""
    history = getattr(tensor, "_keras_history", None)
    return None if history is None else history[0]


def node_of(tensor):
    """The recorded call that made a symbolic tensor, and which of its outputs it is."""
    operation, node_index, tensor_index = tensor._keras_history
    return operation._inbound_nodes[node_index], tensor_index


def recorded_calls(operation):
    """The recorded calls of a layer or operation, in the order in which it was called."""
    return operation._inbound_nodes


# Attributes by which a layer leads back to the graph that it is in.
GRAPH_ATTRIBUTES = ("_inbound_nodes", "_outbound_nodes", "_tracker")


# Layers.


def replace(owner, **attributes):
    """Sets attributes of an instance in place of its class's, unseen by Keras's tracking.

    Keras looks up `call` and the like on the instance, and reads the signature of `call` there.
    """
    vars(owner).update(attributes)


@contextlib.contextmanager
def replaced(owner, **attributes):
    """As `replace`, for a while."""
    absent = object()
    before = {name: vars(owner).get(name, absent) for name in attributes}
    replace(owner, **attributes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is absent:
                del vars(owner)[name]
            else:
                vars(owner)[name] = value


def spec_by_call(layer, *args, **kwargs):
    """The symbolic outputs of a layer as its `call` gives them, past `compute_output_shape`."""
    return keras.Operation.compute_output_spec(layer, *args, **kwargs)


def copy_trainable_flag(source, target):
    """Gives a layer the flag of another one, and leaves the layers in it as they are."""
    target._trainable = source._trainable


def keep_precision(variable):
    """Has a variable keep its dtype in mixed precision."""
    variable._autocast = False


def output_projection(attention):
    """The `EinsumDense` of an attention layer that makes its outputs."""
    return attention._output_dense


# Optimizers.


def variable_index(optimizer, variable):
    """The position of a variable among those that an optimizer was built with."""
    return optimizer._get_variable_index(variable)


def of_inner(name):
    """A property that reads and writes the inner optimizer's attribute of that name."""

    def read(self):
        return getattr(self.inner_optimizer, name)

    def write(self, value):
        # Keras's own `__init__` sets its defaults before there is an inner optimizer.
        if hasattr(self, "inner_optimizer"):
            setattr(self.inner_optimizer, name, value)

    return property(read, write)


class StateOfInner:
    """What Keras's callbacks and wrappers read of an optimizer, from its `inner_optimizer`."""

    _iterations = of_inner("_iterations")
    _learning_rate = of_inner("_learning_rate")
    _trainable_variables = of_inner("_trainable_variables")
    _trainable_variables_indices = of_inner("_trainable_variables_indices")
    _model_variables_moving_average = property(
        lambda self: self.inner_optimizer._model_variables_moving_average
    )


def replace_update_step(optimizer, update_step):
    """Has an optimizer call another function in place of its `update_step`, which is returned.

    Keras hands one rate to all variables, and `update_step` is the only place that knows which
    variable it is for. It is replaced on the instance, so that all else of the optimizer runs as
    ever: clipping, weight decay, accumulation, averages, loss scaling.
    """
    plain = optimizer.update_step
    optimizer.update_step = update_step
    return plain


def attributes_to_save(names, hidden):
    """What `dir` is to list of an object: Keras saves what it finds by `dir`, all but `hidden`."""
    return [name for name in names if name != hidden]


# Models.


def compile_arguments(model):
    """The arguments that a model was compiled with, as they were given."""
    return dict(model._compile_config.config)
