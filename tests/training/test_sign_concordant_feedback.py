import keras
import numpy as np
import pytest

import keras_grapes as kg
from tests.training.models import batch_for, compiled, convolutional, dense, kernels, values


def as_feedback(rule):
    """A feedback alignment with the kernels that a rule has now."""
    plain = kg.FeedbackAlignment(rule.model)
    for kernel, value in zip(plain.feedback_kernels, rule.feedback_kernels, strict=True):
        kernel.assign(value)
    return compiled(plain)


@pytest.mark.parametrize("make", [dense, convolutional])
@pytest.mark.parametrize("magnitude", ["uniform", "fixed", "batch"])
def test_feedback_has_the_signs_of_the_weights_now(magnitude, make):
    model = make()
    rule = compiled(kg.SignConcordantFeedback(model, magnitude, seed=0))
    x, y = batch_for(model)
    for _ in range(2):
        for kernel, feedback in zip(kernels(model)[1:], values(rule.feedback_kernels), strict=True):
            assert kernel.shape == feedback.shape
            np.testing.assert_array_equal(np.sign(kernel), np.sign(feedback))
        for a, b in zip(rule.gradients(x, y), as_feedback(rule).gradients(x, y)):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
        for kernel in kernels(model):
            kernel.assign(-0.5 * kernel)


def test_uniform_magnitude_is_the_root_mean_square_of_the_draw():
    rule = kg.SignConcordantFeedback(dense((5, 200, 300, 10)), seed=0)
    for feedback, width in zip(values(rule.feedback_kernels), (200, 300)):
        assert len(np.unique(np.abs(feedback))) == 1
        np.testing.assert_allclose(np.abs(feedback).max(), np.sqrt(2 / width), rtol=0.02)
    ones = kg.SignConcordantFeedback(dense(), feedback_initializer="ones")
    for kernel, feedback in zip(kernels(ones.model)[1:], values(ones.feedback_kernels)):
        np.testing.assert_array_equal(feedback, np.sign(kernel))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_magnitudes_change_with_every_batch_of_the_training_if_asked_for(jit_compile):
    model = dense()
    x, y = batch_for(model)
    for magnitude in ("uniform", "fixed", "batch"):
        rule = compiled(
            kg.SignConcordantFeedback(model, magnitude, seed=0), jit_compile=jit_compile
        )
        seen = [values(rule.magnitudes)]
        for _ in range(2):
            rule.train_on_batch(x, y)
            seen.append(values(rule.magnitudes))
        rule.predict(x, verbose=0)
        rule.gradients(x, y)
        for a, b, c, d in zip(*seen, values(rule.magnitudes)):
            assert np.array_equal(a, b) == np.array_equal(b, c) == (magnitude != "batch")
            np.testing.assert_array_equal(c, d)


def test_step_is_by_the_magnitudes_of_its_batch():
    model = dense()
    rule = compiled(kg.SignConcordantFeedback(model, "batch", seed=0), keras.optimizers.SGD(1.0))
    x, y = batch_for(model)
    before = model.get_weights()
    rule.train_on_batch(x, y)
    after = model.get_weights()
    model.set_weights(before)
    for old, new, gradient in zip(before, after, as_feedback(rule).gradients(x, y), strict=True):
        np.testing.assert_allclose(old - new, gradient, rtol=1e-3, atol=1e-5)


def test_magnitudes_are_reproducible_and_saved(tmp_path):
    model = dense()
    x, y = batch_for(model)
    drawn = []
    for seed in (3, 3, 4):
        rule = compiled(kg.SignConcordantFeedback(model, "batch", seed=seed))
        rule.train_on_batch(x, y)
        drawn.append(values(rule.magnitudes)[0])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    rule.save(tmp_path / "rule.keras")
    loaded = keras.saving.load_model(tmp_path / "rule.keras")
    assert loaded.magnitude == "batch"
    for _ in range(2):
        for a, b in zip(rule.weights, loaded.weights, strict=True):
            np.testing.assert_array_equal(a, b)
        rule.train_on_batch(x, y), loaded.train_on_batch(x, y)


def test_on_two_devices_all_have_the_same_magnitudes(two_devices):
    x, y = batch_for(dense())
    with two_devices.scope():
        model = dense()
        rule = compiled(
            kg.SignConcordantFeedback(model, "batch", seed=0), keras.optimizers.SGD(1.0)
        )
    before = model.get_weights()
    rule.fit(x, y, batch_size=24, shuffle=False, verbose=0)
    after = model.get_weights()
    plain = dense()
    plain.set_weights(before)
    alone = compiled(kg.SignConcordantFeedback(plain, "batch", seed=0), keras.optimizers.SGD(1.0))
    alone.fit(x, y, batch_size=24, shuffle=False, verbose=0)
    for a, b in zip(after, plain.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_it_aligns_better_than_random_feedback():
    model = dense((20, 50, 50, 10))
    x, y = batch_for(model, 100)
    angles = []
    for make in (kg.FeedbackAlignment, kg.SignConcordantFeedback):
        rule = compiled(make(model, seed=0))
        a, b = (np.ravel(rule.gradients(x, y, backpropagate=bp)[0]) for bp in (False, True))
        angles.append(np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))
    assert angles[1] < 60 < 75 < angles[0]


@pytest.mark.parametrize("magnitude", ["random", None, 1, ["fixed"]])
def test_wrong_magnitude(magnitude):
    with pytest.raises(ValueError, match=r"`magnitude` must be one of.*Received: magnitude="):
        kg.SignConcordantFeedback(dense(), magnitude)


@pytest.mark.parametrize("initializer", ["ones", lambda shape: np.ones(shape)])
def test_fresh_magnitudes_need_a_seed(initializer):
    with pytest.raises(ValueError, match=r'`magnitude="batch"` draws anew.*with a `seed`'):
        kg.SignConcordantFeedback(dense(), "batch", feedback_initializer=initializer)
    kg.SignConcordantFeedback(dense(), "fixed", feedback_initializer=initializer)
