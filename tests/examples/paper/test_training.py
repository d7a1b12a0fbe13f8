import dataclasses

import keras
import numpy as np
import pytest

pytest.importorskip("sklearn")

from examples.paper import networks, tasks, training
from examples.paper.settings import Settings

TINY = Settings(
    dataset="digits",
    train_examples=150,
    test_examples=70,
    hidden=(12, 11),
    learning_rate=0.05,
    batch_size=32,
    epochs=2,
)


def trained_by_fit(settings):
    """Weights and history of the same run by Keras's own `fit`."""
    trainer = training.Trainer(settings.program)
    model = networks.build(settings, trainer.shape, trainer.classes)
    networks.compile_model(model, settings)
    # As the engine: with XLA, dropout draws other numbers.
    model.jit_compile = trainer.use_xla
    losses = []
    images, labels = (part.numpy() for part in trainer.train)
    for epoch in range(settings.epochs):
        order = training.order_of(settings, epoch, len(images))
        fit = model.fit(
            images[order],
            labels[order],
            batch_size=settings.batch_size,
            shuffle=False,
            validation_data=trainer.test,
            verbose=0,
        )
        losses.append([fit.history[name][0] for name in ("loss", "accuracy", "val_accuracy")])
    return model.get_weights(), np.array(losses)


@pytest.mark.parametrize(
    "changes",
    [
        {"arm": "GRAPES", "version": "local", "optimizer": "momentum"},
        {"arm": "GRAPES", "activation": "tanh", "dropout": 0.1},
        {"arm": "GRAPES", "rule": "DFA", "output": "sigmoid", "optimizer": "Adam"},
    ],
    ids=["local", "propagating", "DFA"],
)
def test_an_epoch_is_what_fit_does(changes):
    settings = dataclasses.replace(TINY, **changes)
    weights, curves = trained_by_fit(settings)
    # Not the first run of its program: what was trained before leaves no trace.
    training.run(dataclasses.replace(settings, seed=5, learning_rate=0.2, epochs=1))
    result = training.run(settings)
    model = training.trainer_for(settings.program).model
    for expected, found in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    names = ("loss", "accuracy", "test_accuracy")
    found = np.array([result["epochs"][name] for name in names]).T
    np.testing.assert_allclose(found, curves, rtol=1e-4)


def test_validation_images_are_held_out():
    settings = dataclasses.replace(TINY, train_examples=None, validation_examples=200)
    trainer = training.Trainer(settings.program)
    whole, _, _ = training.tensors("digits", None, 0, None)
    assert [len(part[0]) for part in (trainer.train, trainer.validation)] == [1237, 200]
    joined = np.concatenate([trainer.train[0], trainer.validation[0]])
    np.testing.assert_array_equal(joined, whole[0][0])
    result = training.run(dataclasses.replace(settings, epochs=1))
    assert 0 <= result["epochs"]["validation_accuracy"][0] <= 1
    with pytest.raises(ValueError, match="leave none to train on"):
        training.tensors("digits", None, 5000, None)


def test_arms_are_paired():
    # At a learning rate of 0 only weights, batches and dropout tell runs apart: in the loss.
    settings = dataclasses.replace(TINY, dropout=0.5, learning_rate=1e-12)
    losses = {
        arm: training.run(dataclasses.replace(settings, arm=arm))["epochs"]["loss"]
        for arm in ("plain", "GRAPES", "mean only")
    }
    np.testing.assert_allclose(losses["GRAPES"], losses["plain"], rtol=1e-5)
    np.testing.assert_allclose(losses["mean only"], losses["plain"], rtol=1e-5)
    assert losses["plain"][0] != losses["plain"][1]


def test_the_raised_rate_is_the_rate_times_the_mean_factor():
    raised = dataclasses.replace(TINY, raised_rate=True)
    kernels = [layer.kernel.numpy() for layer in networks.build(TINY, (8, 8, 1), 10).layers[1:3]]
    importance = [np.abs(kernel.astype("float64")).sum(axis=0) for kernel in kernels]
    factors = [np.clip(2 * i / i.max(), 1, 2) for i in importance]
    mean = np.concatenate(factors).mean()
    expected = training.run(dataclasses.replace(TINY, learning_rate=mean * TINY.learning_rate))
    np.testing.assert_allclose(
        training.run(raised)["epochs"]["loss"], expected["epochs"]["loss"], rtol=1e-5
    )


def test_runs_of_one_program_compile_once():
    training.run(TINY)
    trainer = training.trainer_for(TINY.program)
    for seed, rate in ((1, 0.1), (2, 0.01)):
        training.run(dataclasses.replace(TINY, seed=seed, learning_rate=rate))
    assert training.trainer_for(TINY.program) is trainer
    assert trainer._train.experimental_get_tracing_count() == 1


def test_a_run_that_diverges_ends_and_says_so():
    result = training.run(dataclasses.replace(TINY, learning_rate=1e30, epochs=5))
    assert result["diverged"] and len(result["epochs"]["loss"]) < 5
    assert result["epochs"]["loss"][-1] is None


def test_learning_rate_falls_to_a_tenth():
    settings = dataclasses.replace(TINY, learning_rate=1.0, decay_every=3)
    rates = [training.learning_rate(settings, epoch) for epoch in range(7)]
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])
    assert training.learning_rate(TINY, 1000) == TINY.learning_rate


def test_a_permutation_moves_the_chosen_pixels_alone():
    order = tasks.permutation(64, 20, np.random.default_rng(0))
    assert sorted(order) == list(range(64))
    assert np.sum(order != np.arange(64)) <= 20
    assert np.sum(order != np.arange(64)) >= 15
    images = np.arange(128).reshape(2, 8, 8, 1)
    permuted, labels = tasks.permute((images, "labels"), order)
    assert labels == "labels"
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(permuted).reshape(2, 64), images.reshape(2, 64)[:, order]
    )


def test_tasks_are_learned_one_after_the_other():
    settings = dataclasses.replace(
        TINY, train_examples=600, hidden=(32,), tasks=2, epochs=5, learning_rate=0.2
    )
    result = training.run(settings)
    matrix = np.array(result["tasks"])
    assert matrix.shape == (10, 2)
    # Learned when its turn comes, and not before.
    assert matrix[4, 0] > 0.6 > matrix[4, 1]
    assert matrix[9, 1] > 0.6
    assert result["epochs"]["test_accuracy"] == [*matrix[:5, 0], *matrix[5:, 1]]


def test_records_the_modulation_before_and_after():
    result = training.run(dataclasses.replace(TINY, arm="GRAPES", record=("modulation",)))
    assert len(result["modulation"]) == TINY.epochs + 1
    for layer, units in enumerate(TINY.hidden):
        measured = result["modulation"][-1][layer]
        assert 1 <= measured["mean"] <= 2
        assert sum(measured["histogram"]) == units
    fresh = networks.build(TINY, (8, 8, 1), 10)
    kernel = fresh.layers[1].kernel.numpy().astype("float64")
    importance = np.abs(kernel).sum(axis=0)
    factor = np.clip(2 * importance / importance.max(), 1, 2)
    assert result["modulation"][0][0]["mean"] == pytest.approx(factor.mean(), rel=1e-5)


@pytest.mark.parametrize(
    "changes", [{"rule": "DFA"}, {"arm": "pattern only"}, {"arm": "mean only"}], ids=str
)
def test_records_the_factors_that_act(changes):
    from keras_grapes.callbacks import ModulationHistory

    settings = dataclasses.replace(TINY, **{"arm": "GRAPES", "record": ("modulation",), **changes})
    start = training.run(settings)["modulation"][0]
    model = networks.build(settings, (8, 8, 1), 10)
    networks.compile_model(model, settings)
    observed = ModulationHistory()
    x, y = np.zeros((2, 8, 8, 1)), np.zeros(2)
    model.fit(x, y, verbose=0, callbacks=[observed])
    assert len(start) == len(observed.history) == 2
    for found, (name, factors) in zip(start, observed.initial.items()):
        assert found["mean"] == pytest.approx(factors.mean(), rel=1e-5)
        assert found["at_floor"] == observed.history[name]["at_floor"][0]
        assert sum(found["histogram"]) == factors.size


def test_constrained_weights_are_held_and_reproducible():
    settings = dataclasses.replace(TINY, bits=4, noise=0.001, record=("weights",))
    first = training.run(settings)
    kernel = training.trainer_for(settings.program).model.layers[1].kernel.numpy()
    assert np.abs(kernel).max() <= 0.5
    np.testing.assert_array_equal(kernel * 16, np.round(kernel * 16))
    assert first["weights"][-1][0]["variance"] == pytest.approx(kernel.var(), rel=1e-5)
    training.run(TINY)
    assert training.run(settings)["epochs"] == first["epochs"]
