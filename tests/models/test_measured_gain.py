import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg

RNG = np.random.default_rng(0)


def chain(**kwargs):
    """Kernels of one absolute value: every factor is 2, and every gain a power of 2."""
    options = {"use_bias": False, "kernel_initializer": "ones"}
    hidden = [layers.Dense(3, name=f"h{i}", **options) for i in range(3)]
    return keras.Sequential([keras.Input((2,)), *hidden, layers.Dense(1, name="out")], **kwargs)


def test_gains_of_a_chain_by_hand():
    x, y = RNG.uniform(size=(4, 2)), np.zeros((4, 1))
    for model in (chain(), kg.propagate(chain())):
        gains = kg.error_gain(model, x, y)
        assert dict(gains) == pytest.approx({"h0": 8, "h1": 4, "h2": 2, "out": 1}, rel=1e-5)
        assert gains.largest == pytest.approx(8) and gains.median == pytest.approx(3)
    assert kg.error_gain(chain(), x, y, kg.Modulation((0, 3)))["h2"] == pytest.approx(3)
    assert kg.error_gain(chain(), x, y, kg.Modulation(unit_mean=True)).largest == pytest.approx(1)


def test_gains_of_a_residual_network_are_shared_over_its_ways():
    """y = head(b(h) + h) with all ones: h gets 3 from `b` and 1 by the shortcut."""
    options = {"use_bias": False, "kernel_initializer": "ones"}
    i = keras.Input((2,))
    h = layers.Dense(3, name="a", **options)(i)
    y = layers.Dense(3, name="b", **options)(h) + h
    model = keras.Model(i, layers.Dense(1, name="out", **options)(y))
    gains = kg.error_gain(model, np.ones((1, 2)), np.zeros((1, 1)))
    # Factor 2 on the way through b, and 2 of the layer itself.
    assert gains["a"] == pytest.approx(2 * (2 * 3 + 1) / (3 + 1), rel=1e-5)
    assert "at most" in kg.summary(kg.propagate(model)).splitlines()[0]
    assert "at most" not in kg.summary(kg.propagate(chain())).splitlines()[0]


def test_random_numbers_and_statistics_are_those_of_the_model_and_stay():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, name="a"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(8, name="b"),
            layers.Dense(3),
        ]
    )
    propagated = kg.propagate(model)
    before = [v.numpy() for v in propagated.variables]
    x, y = RNG.normal(size=(16, 5)), RNG.integers(0, 3, 16)
    gains = kg.error_gain(propagated, x, y)
    for variable, value in zip(propagated.variables, before):
        np.testing.assert_array_equal(variable, value)
    assert dict(kg.error_gain(propagated, x, y)) == dict(gains)
    assert 1 < gains["b"] <= 2 and 1 < gains["a"] <= 4
    at_inference = kg.error_gain(propagated, x, y, training=False)
    assert 1 < at_inference["b"] <= 2 and at_inference["b"] != gains["b"]


def test_the_loss_is_that_of_compile_or_the_one_given():
    model = chain()
    model.compile("sgd", lambda y_true, y_pred: keras.ops.zeros(()) * keras.ops.sum(y_pred))
    x, y = np.ones((2, 2)), np.zeros((2, 1))
    assert np.isnan(kg.error_gain(model, x, y)["h0"]), "no error arrives"
    assert kg.error_gain(model, x, y, loss="mse")["h0"] == pytest.approx(8)


def test_table():
    text = str(kg.error_gain(chain(), np.ones((2, 2)), np.zeros((2, 1))))
    assert text.splitlines()[2].split() == ["h0", "8.00"]
    assert text.splitlines()[-2].split() == ["largest", "8.00"]
    assert repr(kg.error_gain(chain(), np.ones((2, 2)), np.zeros((2, 1)))) == text


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match="`error_gain` takes"):
        kg.error_gain(layers.Dense(2), np.ones((1, 2)), np.ones((1, 1)))
    with pytest.raises(TypeError, match=r"`y` must be .* a batch. Received: y=None"):
        kg.error_gain(chain(), np.ones((1, 2)), None)
    frozen = chain(trainable=False)
    with pytest.raises(ValueError, match="matrices of weights to train"):
        kg.error_gain(frozen, np.ones((1, 2)), np.ones((1, 1)))


def test_deep_networks_are_warned_of():
    hidden = [layers.Dense(2, kernel_initializer="ones") for _ in range(50)]
    model = keras.Sequential([keras.Input((2,)), *hidden, layers.Dense(1)])
    with pytest.warns(UserWarning, match=r"1\.13e\+15.*unit_mean=True.*Grapes"):
        propagated = kg.propagate(model)  # 2^50
    with pytest.warns(UserWarning, match=r"1\.13e\+15"):
        text = kg.summary(propagated)
    assert text.splitlines()[2].split()[-1] == "1.13e+15"


@pytest.mark.filterwarnings("error")
def test_networks_that_do_not_overflow_are_not_warned_of():
    hidden = [layers.Dense(2, kernel_initializer="ones") for _ in range(49)]
    model = keras.Sequential([keras.Input((2,)), *hidden, layers.Dense(1)])
    kg.propagate(model)
    model.add(layers.Dense(1))
    kg.propagate(model, kg.Modulation(unit_mean=True))
