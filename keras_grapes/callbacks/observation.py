"""What the callbacks share that observe a model while it is trained."""

import contextlib
import math

import keras

from keras_grapes import graph

__all__ = []


def log_name(measure, *parts):
    """Returns the name in the `logs` of an epoch: `measure/layer/quantity`.

    The name of a layer or task is left out of what is told of the whole model, and the quantity
    where a callback logs one alone of each layer or task.
    """
    return "/".join([measure, *parts])


@contextlib.contextmanager
def unchanged(model):
    """Puts back what running a model changes: metrics, states, and the seeds of random layers."""
    variables = [
        *model.non_trainable_variables,
        *model.metrics_variables,
        *(state for layer in graph.all_layers(model) for state in _states(layer)),
    ]
    before = [variable.numpy().copy() for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before):
            variable.assign(value)


def append(record, values, count):
    """Appends the values of layers to their lists, which have `count` entries so far.

    The layers may change, as where one is frozen between two trainings: what is not measured is
    not a number, so that the lists stay of one length.
    """
    for name in {**record, **values}:
        record.setdefault(name, [math.nan] * count).append(values.get(name, math.nan))


def _states(layer):
    """The states that a stateful recurrent layer keeps; Keras leaves them out of its variables."""
    if isinstance(layer, keras.layers.RNN) and layer.states is not None:
        return keras.tree.flatten(layer.states)
    return []
