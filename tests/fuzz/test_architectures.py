"""Random architectures through everything that copies, modulates, saves or explains a model."""

import pathlib
import re
import tempfile
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, assume, given, settings

import keras_grapes as kg
from tests.fuzz.architectures import (
    PLACES,
    TOKENS,
    VOCABULARY,
    Builder,
    architectures,
    around,
    factor,
    nodes_of,
    over_kernel,
)

EXAMPLES = 3
# A sum of powers of 2, as Keras keeps it in float32.
RATE = 0.125


def multiply_error(x, factors):
    """`x`, and the error at it times `factors` along its last axis: an own way to do it."""

    @tf.custom_gradient
    def pass_on(x):
        return x, lambda error: error * tf.constant(factors, error.dtype)

    return pass_on(x)


class Case:
    """One architecture, a batch for it, and what has to come out.

    Args:
        description: What `architectures` draws.
    """

    def __init__(self, description):
        keras.utils.set_random_seed(0)
        builder = Builder(description)
        self.description = description
        self.model = builder.model
        self.made = builder.made
        assume(self.model.trainable_variables)
        random = np.random.default_rng(0)
        for place, layer in enumerate(layer for layer in self.made if nodes_of(layer)):
            scale = description["scale"] if place % 2 else 1.0
            layer.set_weights([scale * random.normal(size=w.shape) for w in layer.get_weights()])
        shape = (EXAMPLES, *self.model.inputs[0].shape[1:])
        if description["source"] == TOKENS:
            self.x = random.integers(0, VOCABULARY, shape)
        else:
            self.x = random.normal(size=shape)
        self.targets = [random.normal(size=output.shape) for output in outputs(self.model, self.x)]
        # Layers with kernels, and their groups whose nodes are hidden.
        self.nodes = {layer.name: nodes for layer in self.made if (nodes := nodes_of(layer))}
        self.output = {layer.name for layer in self.made if id(layer) in builder.output_layers}
        self.wrapped = {
            name
            for name, nodes in self.nodes.items()
            if name not in self.output and nodes.output_group is not None
        }
        self.refused = set(self.nodes) - self.output - self.wrapped

    @property
    def modulation(self):
        return kg.Modulation(**self.description["modulation"])

    def factor(self, group):
        return factor(group, self.description["modulation"])

    def is_hidden(self, name, place):
        return name not in self.output or not self.nodes[name].feeds_output[place]

    def loss(self, model):
        outputs = keras.tree.flatten(model(self.x, training=True))
        return sum(
            tf.reduce_mean((output - tf.cast(target, output.dtype)) ** 2)
            for output, target in zip(outputs, self.targets, strict=True)
        )

    def gradients(self, model):
        state = model.get_weights()
        with tf.GradientTape() as tape:
            loss = self.loss(model)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.set_weights(state)  # The step moves the statistics of normalizations.
        return [None if g is None else tf.convert_to_tensor(g).numpy() for g in gradients]

    def propagated_gradients(self):
        """Gradients of a model built anew with the factors put in by hand."""
        factors = {
            name: self.factor(self.nodes[name].groups[self.nodes[name].output_group])
            for name in self.wrapped
        }

        def after(layer, x):
            if layer.name not in factors:
                return x
            values = align(layer, factors[layer.name])
            return keras.layers.Lambda(multiply_error, arguments={"factors": values})(x)

        builder = Builder(self.description, after)
        for layer, other in zip(builder.made, self.made, strict=True):
            layer.set_weights(other.get_weights())
        gradients = dict(
            zip((id(v) for v in builder.model.trainable_variables), self.gradients(builder.model))
        )
        place_of = {
            id(variable): gradients.get(id(other))
            for layer, reference in zip(self.made, builder.made)
            for variable, other in zip(layer.variables, reference.variables)
        }
        return [place_of[id(variable)] for variable in self.model.trainable_variables]

    def step(self):
        """The weights after one step of SGD with a rate for each node."""
        rates = {}
        for name, nodes in self.nodes.items():
            for place, group in enumerate(nodes.groups):
                if self.is_hidden(name, place):
                    factors = self.factor(group)
                    for kernel, axes in group:
                        rates[id(kernel)] = over_kernel(factors, kernel, axes)
        return [
            variable.numpy() - RATE * rates.get(id(variable), 1.0) * (0.0 if g is None else g)
            for variable, g in zip(self.model.trainable_variables, self.gradients(self.model))
        ]


def align(layer, factors):
    """The factors of a layer's output nodes, shaped to broadcast over its output."""
    swaps = isinstance(layer, keras.layers.EinsumDense) and layer.equation == "abc,cd->adb"
    if swaps:
        return factors[:, None]
    heads = isinstance(layer, keras.layers.EinsumDense) and layer.equation == "abc,cde->abde"
    return factors if heads else factors.reshape(-1)


def assert_close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert np.isfinite(a).all() or not np.isfinite(b).all()
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7 * max(1, np.abs(b).max()))


def outputs(model, x):
    return [tensor.numpy() for tensor in keras.tree.flatten(model(x))]


def assert_equal(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def save_and_load(model):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        return keras.models.load_model(path, safe_mode=False)


def wrappers(model):
    return {
        layer.name for layer in model._flatten_layers() if isinstance(layer, kg.ErrorModulation)
    }


def statuses(text):
    """Rows of a summary: for each layer what it says of its nodes."""
    rows = [re.split(r"\s{2,}", line) for line in text.split("\n\n")[0].splitlines()[2:]]
    assert len({row[0] for row in rows}) == len(rows), "a row a layer"
    return {row[0]: row[-2] for row in rows}


def assert_explained(text, case, modulated, word):
    """Every layer with nodes that are modulated says so, every other one says why it is not."""
    found = statuses(text)
    for name, nodes in case.nodes.items():
        kernels = [len(kernels) for kernels in nodes.groups]
        acting = [n for place, n in enumerate(kernels) if modulated(name, place)]
        if not acting:
            assert re.match(r"no: \w+", found[name]), text
            continue
        part = f", {sum(acting)} of {sum(kernels)} kernels" if len(acting) < len(kernels) else ""
        assert found[name] == f"yes: {word}{part}", text


def check_propagation(case):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        propagated = kg.propagate(case.model, case.modulation)
    told = "\n".join(str(warning.message) for warning in caught)
    assert set(re.findall(r"cannot wrap layer '(\w+)'", told)) == case.refused
    assert wrappers(propagated) == case.wrapped
    expected_outputs = outputs(case.model, case.x)
    assert_equal(outputs(propagated, case.x), expected_outputs)
    expected = case.propagated_gradients()
    assert_close(case.gradients(propagated), expected)
    if case.wrapped:
        assert_explained(
            kg.summary(propagated),
            case,
            lambda name, place: name in case.wrapped and place == case.nodes[name].output_group,
            "error",
        )
    loaded = save_and_load(propagated)
    assert wrappers(loaded) == case.wrapped
    assert_close(case.gradients(loaded), expected)
    stripped = kg.strip(loaded)
    assert not wrappers(stripped)
    assert [layer.name for layer in stripped.layers] == [layer.name for layer in case.model.layers]
    assert_equal(outputs(stripped, case.x), expected_outputs)
    assert_close(case.gradients(stripped), case.gradients(case.model))


def check_optimizer(case):
    expected = case.step()
    model = case.model
    model.compile(kg.Grapes(keras.optimizers.SGD(RATE), model, case.modulation), "mse")
    trainable = {id(v) for v in model.trainable_variables}
    assert_explained(
        kg.summary(model),
        case,
        lambda name, place: (
            case.is_hidden(name, place) and id(case.nodes[name].groups[place][0][0]) in trainable
        ),
        "update",
    )
    loaded = save_and_load(model)
    for one in (model, loaded):
        gradients = [
            g if g is None else tf.constant(g, v.dtype)
            for g, v in zip(case.gradients(one), one.trainable_variables)
        ]
        if any(g is not None for g in gradients):
            one.optimizer.apply(gradients, one.trainable_variables)
            assert_close([v.numpy() for v in one.trainable_variables], expected)


def check(description):
    # In float64, so that another order of summation cannot hide a wrong factor.
    keras.config.set_dtype_policy("float64")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        case = Case(description)
        check_propagation(case)
        check_optimizer(case)


SETTINGS = {
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "database": None,
}


@settings(max_examples=5, **SETTINGS)
@given(architectures())
def test_a_few_random_architectures(description):
    check(description)


@pytest.mark.slow
@settings(max_examples=300, **SETTINGS)
@given(architectures())
def test_many_random_architectures(description):
    check(description)


@pytest.mark.slow
@pytest.mark.parametrize("before, after, place", PLACES)
def test_every_kind_of_layer_below_another(before, after, place):
    """Random networks seldom have any one of them hidden."""

    @settings(max_examples=2, **SETTINGS)
    @given(around(before, after, place))
    def check_around(description):
        check(description)

    check_around()
