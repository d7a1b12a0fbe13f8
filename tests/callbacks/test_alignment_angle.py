import csv

import keras
import numpy as np
import pytest

import keras_grapes as kg
from tests.training.models import batch_for, compiled, dense, kernels


def names(model):
    return [layer.name for layer in model.layers[:-1]]


def test_hand_calculated_angle_and_ratio():
    # One example, one linear hidden layer: the gradients are outer products of x and of B e, W e.
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(2, name="hidden", use_bias=False),
            keras.layers.Dense(1, use_bias=False),
        ]
    )
    kernels(model)[1].assign([[1.0], [0.0]])
    rule = kg.FeedbackAlignment(model)
    rule.feedback_kernels[0].assign([[1.0], [np.sqrt(3.0)]])
    rule.compile(keras.optimizers.SGD(0.0), "mse")
    x, y = np.array([[1.0, 2.0]]), np.array([[50.0]])
    angle = kg.callbacks.AlignmentAngle(x, y)
    history = rule.fit(x, y, epochs=2, verbose=0, callbacks=[angle]).history
    assert angle.epochs == [0, 1, 2]
    np.testing.assert_allclose(angle.angles["hidden"], 60, rtol=1e-5)
    np.testing.assert_allclose(angle.norm_ratios["hidden"], 2, rtol=1e-5)
    np.testing.assert_allclose(history["alignment/hidden/angle"], 60, rtol=1e-5)
    np.testing.assert_allclose(history["alignment/hidden/norm_ratio"], 2, rtol=1e-5)


def test_zero_where_feedback_is_the_weights():
    model = dense()
    rule = kg.FeedbackAlignment(model)
    for feedback, kernel in zip(rule.feedback_kernels, kernels(model)[1:]):
        feedback.assign(kernel)
    x, y = batch_for(model)
    angle = kg.callbacks.AlignmentAngle(x, y)
    compiled(rule, keras.optimizers.SGD(0.0)).fit(x, y, verbose=0, callbacks=[angle])
    for name in names(model):
        np.testing.assert_allclose(angle.angles[name], 0, atol=0.1)
        np.testing.assert_allclose(angle.norm_ratios[name], 1, rtol=1e-5)


def test_other_callbacks_see_it(tmp_path):
    model = dense()
    x, y = batch_for(model)
    callbacks = [
        kg.callbacks.AlignmentAngle(x, y, sample_weight=np.ones(len(x))),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    compiled(kg.DirectFeedbackAlignment(model)).fit(x, y, verbose=0, callbacks=callbacks)
    with open(tmp_path / "log.csv") as file:
        (row,) = csv.DictReader(file)
    for name in names(model):
        assert 0 < float(row[f"alignment/{name}/angle"]) < 180
        assert float(row[f"alignment/{name}/norm_ratio"]) > 0


def test_training_is_the_same_without_it():
    model = dense()
    x, y = batch_for(model)
    weights = model.get_weights()
    results = []
    for callbacks in ([], [kg.callbacks.AlignmentAngle(x, y)]):
        model.set_weights(weights)
        rule = compiled(kg.FeedbackAlignment(model, True, seed=0), "adam", metrics=["accuracy"])
        history = rule.fit(x, y, epochs=2, shuffle=False, verbose=0, callbacks=callbacks).history
        results.append((history["loss"], history["accuracy"], model.get_weights()))
    assert results[0][:2] == results[1][:2]
    for a, b in zip(results[0][2], results[1][2]):
        np.testing.assert_array_equal(a, b)


def test_feedback_alignment_aligns_on_real_digits():
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    images = (images / 16).astype("float32")
    model = dense((64, 64, 64, 10))
    rule = compiled(kg.FeedbackAlignment(model, seed=0), keras.optimizers.SGD(0.1))
    angle = kg.callbacks.AlignmentAngle(images[:256], labels[:256])
    rule.fit(images, labels, epochs=10, verbose=0, callbacks=[angle])
    for name in names(model):
        assert angle.angles[name][0] > 70
        assert angle.angles[name][-1] < angle.angles[name][0] - 10
        assert angle.angles[name][-1] < 75


def test_not_a_number_without_gradient_and_frozen_layers_left_out():
    model = dense()
    x, y = batch_for(model)
    model.layers[0].trainable = False
    rule = compiled(kg.DirectFeedbackAlignment(model, feedback_initializer="zeros"))
    angle = kg.callbacks.AlignmentAngle(x, y)
    rule.fit(x, y, verbose=0, callbacks=[angle])
    assert list(angle.angles) == names(model)[1:]
    assert np.isnan(angle.angles[names(model)[1]]).all()


def test_layers_of_one_name_are_kept_apart():
    def part(name):
        return keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(6, "tanh", name="a")], name=name
        )

    model = keras.Sequential(
        [keras.Input((6,)), part("first"), part("second"), keras.layers.Dense(3, "softmax")]
    )
    x, y = batch_for(model)
    angle = kg.callbacks.AlignmentAngle(x, y)
    rule = compiled(kg.DirectFeedbackAlignment(model, seed=0))
    history = rule.fit(x, y, verbose=0, callbacks=[angle]).history
    first, second = angle.angles
    assert "first" in first and "second" in second
    assert angle.angles[first] != angle.angles[second]
    assert {f"alignment/{first}/angle", f"alignment/{second}/norm_ratio"} <= set(history)


def test_further_training_goes_on_and_another_model_begins_anew():
    model = dense()
    first, second, *_ = names(model)
    x, y = batch_for(model)
    angle = kg.callbacks.AlignmentAngle(x, y)
    rule = kg.FeedbackAlignment(model)
    for trainable in (True, False):
        model.get_layer(first).trainable = trainable
        compiled(rule).fit(x, y, epochs=2, verbose=0, callbacks=[angle])
    assert angle.epochs == [0, 1, 2, 3, 4]
    for record in (angle.angles, angle.norm_ratios):
        np.testing.assert_array_equal(np.isfinite(record[first]), [True] * 3 + [False] * 2)
        assert np.isfinite(record[second]).all() and len(record[second]) == 5
    other = dense()
    compiled(kg.FeedbackAlignment(other)).fit(x, y, verbose=0, callbacks=[angle])
    assert angle.epochs == [0, 1]
    assert list(angle.angles) == names(other)


def test_plots():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    model = dense()
    x, y = batch_for(model)
    angle = kg.callbacks.AlignmentAngle(x, y)
    with pytest.raises(ValueError, match="nothing to draw"):
        angle.plot()
    compiled(kg.FeedbackAlignment(model)).fit(x, y, verbose=0, callbacks=[angle])
    for quantity, measured in (("angle", angle.angles), ("norm_ratio", angle.norm_ratios)):
        mine = Figure()
        assert angle.plot(quantity, mine.subplots()) is mine
        (axes,) = angle.plot(quantity).axes
        lines = {line.get_label(): line.get_ydata() for line in axes.lines}
        for name in names(model):
            np.testing.assert_array_equal(lines[name], measured[name])
    with pytest.raises(ValueError, match="`quantity` must be one of"):
        angle.plot("angles")


def test_other_models_are_refused():
    model = compiled(dense())
    x, y = batch_for(model)
    with pytest.raises(TypeError, match="`AlignmentAngle` observes"):
        model.fit(x, y, verbose=0, callbacks=[kg.callbacks.AlignmentAngle(x, y)])


@pytest.mark.parametrize("x, y", [(np.zeros((0, 4)), np.zeros(0)), (np.zeros((3, 4)), 1.0)])
def test_what_is_no_batch_is_refused(x, y):
    with pytest.raises(ValueError, match="must be one batch"):
        kg.callbacks.AlignmentAngle(x, y)
    with pytest.raises(TypeError, match="Received: y=None"):
        kg.callbacks.AlignmentAngle(x, None)
