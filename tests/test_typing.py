"""Public functions and constructors say what they take and return."""

import inspect
import typing

import pytest

import keras_grapes as kg


def public():
    for name in kg.__all__:
        value = getattr(kg, name)
        if not inspect.ismodule(value) and callable(value):
            yield pytest.param(value, id=name)


@pytest.mark.parametrize("value", list(public()))
def test_every_argument_is_annotated(value):
    function = value.__init__ if inspect.isclass(value) else value
    parameters = list(inspect.signature(function).parameters.values())
    bare = [
        parameter.name
        for parameter in parameters
        if parameter.name != "self"
        and parameter.annotation is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    assert not bare
    # Each name in them is one that a type checker finds.
    typing.get_type_hints(function)
