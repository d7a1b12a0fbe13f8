"""Random numbers: their distribution and their seeds."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_grapes import random

DRAWS = [lambda seed: random.uniform((50, 400), seed), lambda s: random.normal((50, 400), 2.0, s)]


def test_distribution():
    uniform = np.asarray(random.uniform((50, 400), seed=1))
    assert uniform.dtype == "float32" and uniform.min() >= 0 and uniform.max() < 1
    # Five standard deviations of the estimates, from 20,000 numbers each.
    assert abs(uniform.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / 20_000)
    assert abs(uniform.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / 20_000)
    normal = np.asarray(random.normal((50, 400), 2.0, seed=1))
    assert normal.dtype == "float32"
    assert abs(normal.mean()) < 5 * 2 / np.sqrt(20_000)
    assert abs(normal.var() - 4) < 5 * 4 * np.sqrt(2 / 20_000)


@pytest.mark.parametrize("draw", DRAWS)
def test_seed(draw):
    np.testing.assert_array_equal(draw(3), draw(3))
    assert (np.asarray(draw(3)) != np.asarray(draw(4))).any()
    assert (np.asarray(draw(None)) != np.asarray(draw(None))).any()
    one, other = keras.random.SeedGenerator(5), keras.random.SeedGenerator(5)
    first, second = np.asarray(draw(one)), np.asarray(draw(one))
    np.testing.assert_array_equal(first, draw(other))
    np.testing.assert_array_equal(second, draw(other))
    assert (first != second).any()


@pytest.mark.parametrize("draw", DRAWS)
def test_global_seed(draw):
    numbers = []
    for _ in range(2):
        # Keras 3.9 keeps its generator from one `set_random_seed` to the next.
        keras.backend.clear_session()
        keras.utils.set_random_seed(7)
        numbers.append(np.asarray(draw(None)))
    np.testing.assert_array_equal(*numbers)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled(draw, jit_compile):
    def sequence():
        generator = keras.random.SeedGenerator(5)
        function = tf.function(lambda: draw(generator), jit_compile=jit_compile)
        return np.stack([function(), function()])

    numbers = sequence()
    np.testing.assert_array_equal(numbers, sequence())
    assert len(np.unique(numbers)) > 0.99 * numbers.size
    if not jit_compile:
        eager = keras.random.SeedGenerator(5)
        np.testing.assert_array_equal(numbers, np.stack([draw(eager), draw(eager)]))


def test_unknown_batch_size():
    function = tf.function(
        lambda x: random.uniform((tf.shape(x)[0], 3)), input_signature=[tf.TensorSpec([None])]
    )
    assert function(tf.zeros(4)).shape == (4, 3)


@pytest.mark.parametrize("seed", ["x", 1.5, True])
def test_bad_seed(seed):
    with pytest.raises(ValueError, match="`seed` must be an int, a `keras"):
        random.uniform((2,), seed)
