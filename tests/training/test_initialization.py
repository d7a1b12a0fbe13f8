"""Feedback kernels made by a function survive saving, whether or not the function does."""

import functools

import keras
import numpy as np
import pytest

import keras_grapes as kg
from tests.training.models import batch_for, compiled, dense


def sparse(shape, dtype=None):
    random = np.random.default_rng(0)
    return random.normal(size=shape) * (random.uniform(size=shape) < 0.1)


class OwnInitializer(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return sparse(shape)

    def get_config(self):
        return {}


class Callable:
    def __call__(self, shape):
        return sparse(shape)


FUNCTIONS = {
    "lambda": lambda shape: sparse(shape),
    "function": sparse,
    "partial": functools.partial(sparse, dtype="float32"),
    "callable": Callable(),
    "own initializer": OwnInitializer(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_saved_and_loaded_with_its_kernels(name, rule_class, tmp_path):
    model = dense()
    rule = compiled(rule_class(model, feedback_initializer=FUNCTIONS[name]))
    x, y = batch_for(model)
    path = tmp_path / "rule.keras"
    for _ in range(2):
        rule.save(path)
        loaded = keras.saving.load_model(path)
        for a, b in zip(rule.weights, loaded.weights, strict=True):
            np.testing.assert_array_equal(a, b)
        assert np.abs(loaded.feedback_kernels[0]).max() > 0
        for a, b in zip(rule.gradients(x, y), loaded.gradients(x, y)):
            np.testing.assert_allclose(a, b, rtol=1e-6)
        rule = loaded  # And once more: what was loaded is saved.


def test_a_function_that_is_known_when_loading_is_kept(tmp_path):
    rule = kg.FeedbackAlignment(dense(), feedback_initializer=sparse)
    rule.save(tmp_path / "rule.keras")
    known = {"sparse": sparse}
    loaded = keras.saving.load_model(tmp_path / "rule.keras", custom_objects=known)
    assert loaded.feedback_initializer is sparse


def test_without_the_file_there_are_no_kernels_and_it_says_so():
    rule = kg.FeedbackAlignment(dense(), feedback_initializer=lambda shape: sparse(shape))
    again = compiled(kg.FeedbackAlignment.from_config(rule.get_config()))
    x, y = batch_for(rule.model)
    with pytest.raises(ValueError, match=r"made by a function that no config holds.*set_weights"):
        again.fit(x, y, verbose=0)
    again.set_weights(rule.get_weights())
    again.fit(x, y, verbose=0)
