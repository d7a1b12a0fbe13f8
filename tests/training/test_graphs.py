"""Every rule against NumPy float64 on a residual, branching, convolutional and spiking network."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg
from tests.training import numpy_graphs
from tests.training.models import values
from tests.training.numpy_rules import factor

BIAS = {"bias_initializer": keras.initializers.RandomNormal(stddev=0.3)}


def residual():
    inputs = keras.Input((5,))
    h = layers.Dense(7, "tanh", name="A", **BIAS)(inputs)
    u = layers.Dense(7, "tanh", name="B", **BIAS)(h)
    outputs = layers.Dense(3, "softmax", name="C", **BIAS)(layers.Add()([h, u]))
    return keras.Model(inputs, outputs)


def branching():
    inputs = keras.Input((5,))
    h = layers.Dense(7, "tanh", name="A", **BIAS)(inputs)
    u = layers.Dense(4, "tanh", name="B", **BIAS)(h)
    v = layers.Dense(6, "relu", name="C", **BIAS)(h)
    m = keras.ops.concatenate([u, v, inputs], axis=-1)
    return keras.Model(inputs, layers.Dense(3, "softmax", name="D", **BIAS)(m))


def convolutional():
    inputs = keras.Input((5, 5, 2))
    h = layers.Conv2D(3, 2, activation="tanh", name="A", **BIAS)(inputs)
    r = layers.Conv2D(3, 2, activation="relu", name="B", **BIAS)(h)
    u = r + layers.Cropping2D(((0, 1), (0, 1)))(h)
    outputs = layers.Dense(3, "softmax", name="C", **BIAS)(layers.Flatten()(u))
    return keras.Model(inputs, outputs)


def spiking():
    return keras.Sequential(
        [
            keras.Input((9, 5)),
            kg.SNU(6, recurrent=True, return_sequences=True, name="A"),
            kg.SNU(3, return_sequences=True, name="B"),
            layers.GlobalAveragePooling1D(),
        ]
    )


# Network, layers whose input depends on a hidden one, tensors that get errors directly.
NETWORKS = {
    "residual": (residual, ["B", "C"], ["h", "m"]),
    "branching": (branching, ["B", "C", "D"], ["h", "m"]),
    "convolutional": (convolutional, ["B", "C"], ["h", "u"]),
    "spiking": (spiking, ["B"], ["y"]),
}

RULES = {
    "fa": kg.FeedbackAlignment,
    "dfa": kg.DirectFeedbackAlignment,
    "uniform": lambda model, **kwargs: kg.SignConcordantFeedback(model, "uniform", **kwargs),
    "fixed": lambda model, **kwargs: kg.SignConcordantFeedback(model, "fixed", **kwargs),
    "drtp": kg.DirectRandomTargetProjection,
}


def incoming(network, weights):
    """Factors by the weights that enter each node."""
    if network == "spiking":
        return {"A": factor(np.abs(weights[0]).sum(0) + np.abs(weights[1]).sum(0))}
    kernels = dict(zip("ABCD", weights[::2]))
    *hidden, _ = kernels
    axes = {name: tuple(range(kernels[name].ndim - 1)) for name in hidden}
    return {name: factor(np.abs(kernels[name]).sum(axes[name])) for name in hidden}


def leaving(network, weights):
    """Factors by the weights that leave each node, through skips too."""
    if network == "spiking":
        return {"A": factor(np.abs(weights[3]).sum(1))}
    _, b, c, *rest = weights[::2]
    out = np.abs(c).sum(1)
    if network == "residual":
        return {"A": factor(np.abs(b).sum(1) + out), "B": factor(out)}
    if network == "convolutional":
        out = out.reshape(-1, 3).sum(0)
        return {"A": factor(np.abs(b).sum((0, 1, 3)) + out), "B": factor(out)}
    out = np.abs(rest[0]).sum(1)
    return {
        "A": factor(np.abs(b).sum(1) + np.abs(c).sum(1)),
        "B": factor(out[:4]),
        "C": factor(out[4:10]),
    }


def numpy_rule(name, network, rule, weights, targets):
    _, above, tensors = NETWORKS[network]
    direct = name in ("dfa", "drtp")
    feedback = [np.array(kernel, "float64") for kernel in values(rule.feedback_kernels)]
    factors = (leaving if direct else incoming)(network, weights) if rule.modulation else {}
    if direct:
        found = numpy_graphs.Rule(direct=dict(zip(tensors, feedback, strict=True)), factors=factors)
        if name == "drtp":
            found.sent = lambda error: targets / len(targets)
        return found
    if name in ("uniform", "fixed"):
        kernels = dict(zip("ABCD", weights[::2]))
        if network == "spiking":
            kernels = {"B": weights[3]}
        drawn = [np.array(m, "float64") for m in values(rule.magnitudes)]
        if name == "uniform":
            drawn = [np.sqrt((m**2).mean()) for m in drawn]
        feedback = [np.sign(kernels[layer]) * np.abs(m) for layer, m in zip(above, drawn)]
    return numpy_graphs.Rule(kernels=dict(zip(above, feedback, strict=True)), factors=factors)


@pytest.mark.parametrize("grapes", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", RULES)
def test_gradients_are_those_of_the_numpy_implementation(name, network, grapes):
    keras.utils.set_random_seed(1)
    model = NETWORKS[network][0]()
    rule = RULES[name](model, modulation=grapes, seed=2)
    random = np.random.default_rng(3)
    scale = 3.0 if network == "spiking" else 1.0
    x = (scale * random.normal(size=(8, *model.inputs[0].shape[1:]))).astype("float32")
    y = random.integers(0, 3, 8)
    targets = np.eye(3)[y]
    rule.compile("sgd", "mse" if network == "spiking" else "categorical_crossentropy")
    weights = [np.array(w, "float64") for w in model.get_weights()]
    by_hand = getattr(numpy_graphs, network)(
        weights,
        x.astype("float64"),
        targets if network == "spiking" else y,
        numpy_rule(name, network, rule, weights, targets),
    )
    if network == "spiking":
        assert 0.05 < float(keras.ops.mean(model.layers[0](x))) < 0.95
    for gradient, expected in zip(rule.gradients(x, targets), by_hand, strict=True):
        assert np.abs(expected).max() > 1e-4
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_hand_calculation_is_back_propagation_where_feedback_is_the_weights(network):
    make, above, _ = NETWORKS[network]
    model = make()
    rule = kg.FeedbackAlignment(model)
    rule.compile("sgd", "mse" if network == "spiking" else "categorical_crossentropy")
    random = np.random.default_rng(3)
    scale = 3.0 if network == "spiking" else 1.0
    x = (scale * random.normal(size=(8, *model.inputs[0].shape[1:]))).astype("float32")
    y = random.integers(0, 3, 8)
    weights = [np.array(w, "float64") for w in model.get_weights()]
    kernels = {"B": weights[3]} if network == "spiking" else dict(zip("ABCD", weights[::2]))
    by_hand = getattr(numpy_graphs, network)(
        weights,
        x.astype("float64"),
        np.eye(3)[y] if network == "spiking" else y,
        numpy_graphs.Rule(kernels={layer: kernels[layer] for layer in above}),
    )
    gradients = rule.gradients(x, np.eye(3)[y], backpropagate=True)
    for gradient, expected in zip(gradients, by_hand, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
