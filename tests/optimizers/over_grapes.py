"""A plugin of pytest that puts `Grapes` around every optimizer that tests of others make.

The factors are 1, so that the numbers which those tests expect stay, but they are computed and
applied: every variable with an axis counts as a kernel, whatever its name.
"""

import inspect
import types

import keras

import keras_grapes as kg
from keras_grapes.optimizers import variable_grouping

IDENTITY = kg.Modulation(bounds=(1.0, 1.0))
# These hold optimizers themselves. Keras 3.9 has one of them.
WRAPPERS = tuple(
    getattr(keras.optimizers, name)
    for name in ("LossScaleOptimizer", "MultiOptimizer")
    if hasattr(keras.optimizers, name)
)


def every_variable(variables):
    return [kg.grouping.Group(v, incoming_axes=()) for v in variables if len(v.shape) > 0]


def wrapped(optimizer_class):
    """A function in place of a class of optimizers."""

    def make(*args, **kwargs):
        return kg.Grapes(optimizer_class(*args, **kwargs), modulation=IDENTITY)

    return make


def is_optimizer_class(value):
    return (
        inspect.isclass(value)
        and issubclass(value, keras.optimizers.Optimizer)
        and value is not keras.optimizers.Optimizer
        and not issubclass(value, (kg.Grapes, *WRAPPERS))
        and value.__module__.startswith("keras.")
    )


class Module:
    """A module of optimizers, as the tests see it."""

    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        value = getattr(self._module, name)
        return wrapped(value) if is_optimizer_class(value) else value


def pytest_collection_modifyitems(items):
    variable_grouping.group_by_name = every_variable
    for module in {item.module for item in items}:
        for name, value in list(vars(module).items()):
            if is_optimizer_class(value):
                setattr(module, name, wrapped(value))
            elif isinstance(value, types.ModuleType) and value.__name__.endswith("optimizers"):
                setattr(module, name, Module(value))
