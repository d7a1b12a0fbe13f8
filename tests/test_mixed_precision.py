"""Half precision: an overflow changes nothing, and the modulation is computed in float32."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg
from tests import reference
from tests.distributed_training import KINDS


def spiking():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Reshape((2, 3)),
            kg.SNU(8, input_activation="leaky_relu", return_sequences=True),
            kg.SSNU(4),
            layers.Softmax(),
        ]
    )
    return kg.propagate(model), keras.optimizers.SGD(0.1, momentum=0.9)


ALL = {**KINDS, "spiking": spiking}


def compiled(kind, **options):
    keras.utils.set_random_seed(0)
    model, optimizer = ALL[kind]()
    # Eagerly, as it is one step.
    model.compile(optimizer, "sparse_categorical_crossentropy", run_eagerly=True, **options)
    return model, optimizer


def batch():
    random = np.random.default_rng(0)
    return random.normal(size=(16, 6)).astype("float32"), random.integers(0, 4, 16)


def values(variables):
    return [variable.numpy() for variable in variables]


@pytest.mark.parametrize("kind", ALL)
def test_overflow_leaves_everything_untouched_and_the_next_step_acts(kind):
    keras.config.set_dtype_policy("mixed_float16")
    model, optimizer = compiled(kind)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    x, y = batch()
    # Once, so that the optimizer has a state that could be spoilt.
    model.train_on_batch(x, y)
    before = values(model.weights) + values(optimizer.variables)
    assert int(optimizer.iterations) == 1
    scale = float(model.optimizer.dynamic_scale)
    # It overflows float16.
    model.optimizer.dynamic_scale.assign(1e30)
    model.train_on_batch(x, y)
    assert float(model.optimizer.dynamic_scale) < 1e30
    for one, other in zip(values(model.weights) + values(optimizer.variables), before, strict=True):
        np.testing.assert_array_equal(one, other)
    model.optimizer.dynamic_scale.assign(scale)
    model.train_on_batch(x, y)
    assert int(optimizer.iterations) == 2
    assert all(np.isfinite(value).all() for value in values(model.weights))
    assert not np.array_equal(model.trainable_variables[0], before[0])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", ALL)
def test_a_step_is_that_of_full_precision_up_to_rounding(kind, policy):
    x, y = batch()
    trained = []
    for one in ("float32", policy):
        keras.config.set_dtype_policy(one)
        model, _ = compiled(kind)
        before = values(model.trainable_variables)
        model.train_on_batch(x, y)
        assert {v.dtype for v in model.weights if "seed" not in v.path} == {"float32"}
        after = values(model.trainable_variables)
        trained.append(np.concatenate([(b - a).ravel() for a, b in zip(before, after)]))
        # Keras scales the loss for float16 alone.
        scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert scaled == (one == "mixed_float16")
    full, half = trained
    assert np.linalg.norm(half - full) < 0.1 * np.linalg.norm(full)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_factors_of_the_optimizer_are_those_of_the_float32_weights(policy):
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(9), layers.Dense(4)])
    optimizer = kg.Grapes(keras.optimizers.SGD(1.0), model=model)
    before = model.layers[0].kernel.numpy()
    gradients = [keras.ops.ones(v.shape) for v in model.trainable_variables]
    optimizer.apply(gradients, model.trainable_variables)
    step = before - model.layers[0].kernel.numpy()
    expected = np.broadcast_to(reference.dense_factor(before), step.shape)
    # Far closer than either half precision can tell.
    np.testing.assert_allclose(step, expected, rtol=1e-6, atol=1e-6)


def test_loss_is_not_scaled_where_the_user_says_so():
    keras.config.set_dtype_policy("mixed_float16")
    model, optimizer = compiled("grapes", auto_scale_loss=False)
    assert model.optimizer is optimizer
