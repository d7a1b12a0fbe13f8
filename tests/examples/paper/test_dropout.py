import keras
import numpy as np
import tensorflow as tf

from examples.paper.dropout import Dropout, hashed

SIZE = 64 * 256


def test_any_change_turns_half_of_the_bits():
    def bits(seed, step):
        words = hashed(tf.range(SIZE), seed, step).numpy()
        return np.unpackbits(words.view("uint8").reshape(SIZE, 4), axis=1)

    masks = [bits(*keys) for keys in ((1, 0), (1, 1), (2, 0), (1001, 0))]
    for number, first in enumerate(masks):
        assert abs(first.mean() - 0.5) < 0.005
        assert abs((first[1:] ^ first[:-1]).mean() - 0.5) < 0.005
        for second in masks[:number]:
            assert abs((first ^ second).mean() - 0.5) < 0.005


def test_it_drops_the_share_and_keeps_the_mean():
    layer = Dropout(0.1, seed=3)
    draws = np.stack([layer(tf.ones((64, 256)), training=True).numpy() for _ in range(20)])
    kept = draws > 0
    np.testing.assert_allclose(draws[kept], 1 / 0.9, rtol=1e-6)
    assert abs(kept.mean() - 0.9) < 0.002
    # Every place is dropped as often as chance has it, and no step is like another.
    assert abs(kept.mean(axis=0).std() - (0.09 / 20) ** 0.5) < 0.005
    assert abs(np.corrcoef(kept.reshape(20, -1)) - np.eye(20)).max() < 0.05


def test_it_is_the_same_compiled_and_in_a_copy():
    copy = Dropout.from_config(Dropout(0.5, seed=1).get_config())
    compiled = tf.function(copy, jit_compile=True)
    x = tf.ones((4, 9))
    plain = Dropout(0.5, seed=1)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(x, training=True), plain(x, training=True))
    np.testing.assert_array_equal(plain(x), x)
    assert keras.Sequential([keras.Input((9,)), plain]).output_shape == (None, 9)
