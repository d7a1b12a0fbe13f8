import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_grapes as kg

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(48, 4)).astype("float32")
TASKS = [(X, np.argmax(X[:, i : i + 2], axis=1)) for i in range(3)]


def network(**kwargs):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dropout(0.2, seed=1),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(2, "softmax"),
        ]
    )
    kwargs = {"metrics": ["accuracy"]} | kwargs
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", **kwargs)
    return model


def accuracies(model):
    """By hand: the share of the examples whose most probable class is theirs."""
    return [np.mean(np.argmax(model(x), axis=1) == y) for x, y in TASKS]


def test_matrix_by_hand_over_a_sequence_of_fits():
    model = network()
    tracker = kg.callbacks.TaskAccuracy(TASKS, every=2)
    rows = [accuracies(model)]
    for x, y in TASKS:
        history = model.fit(x, y, epochs=3, verbose=0, callbacks=[tracker]).history
        rows.append(accuracies(model))
    np.testing.assert_allclose(tracker.initial_accuracy, rows[0], rtol=1e-6)
    np.testing.assert_allclose(tracker.accuracy, rows[1:], rtol=1e-6)
    assert tracker.names == ["task_1", "task_2", "task_3"]
    np.testing.assert_array_equal(tracker.epochs, [2, 4, 6, 8])
    assert tracker.curve.shape == (4, 3)
    np.testing.assert_allclose(history["task_accuracy/task_2"][1], tracker.curve[-1, 1])
    last = np.array(rows[-1])
    best = np.max(rows[1:-1], axis=0)
    expected = np.mean(best[:2] - last[:2])
    assert kg.analysis.continual.forgetting(tracker.accuracy) == pytest.approx(expected)


def test_several_trainings_of_a_task_share_its_row():
    model = network()
    tracker = kg.callbacks.TaskAccuracy(dict(zip("abc", TASKS)), every=1)
    rows = []
    for task, (x, y) in zip(("a", 1, "c"), TASKS):
        for part in (slice(0, 24), slice(24, 48)):
            model.fit(x[part], y[part], verbose=0, callbacks=[tracker.task(task)])
        rows.append(accuracies(model))
        np.testing.assert_allclose(tracker.accuracy, rows, rtol=1e-6)
    assert tracker.curve.shape == (6, 3)
    (a, b, _), (c, d, _), (e, f, _) = rows
    forgetting = (max(a, c) - e + max(b, d) - f) / 2
    assert kg.analysis.continual.forgetting(tracker.accuracy) == pytest.approx(forgetting)
    pytest.importorskip("matplotlib").use("agg")
    assert tracker.plot().axes[0].get_images()[0].get_array().shape == (3, 3)


def test_what_is_said_of_the_task_holds_until_another_is_named():
    model = network()
    tracker = kg.callbacks.TaskAccuracy(TASKS)
    model.fit(*TASKS[0], verbose=0, callbacks=[tracker])
    tracker.task(1)
    for _ in range(2):
        model.fit(*TASKS[1], verbose=0, callbacks=[tracker])
    assert len(tracker.accuracy) == 2
    model.fit(*TASKS[2], verbose=0, callbacks=[tracker.task("task_3")])
    np.testing.assert_allclose(tracker.accuracy[2], accuracies(model), rtol=1e-6)


def test_bad_tasks():
    tracker = kg.callbacks.TaskAccuracy(TASKS)
    for task in ("b", 3, -1, True, None):
        with pytest.raises(ValueError, match=r"`task` must be one of \['task_1'.*from 0 to 2"):
            tracker.task(task)
    with pytest.raises(ValueError, match=r"in their order.*'task_2' first"):
        tracker.task(1)
    for task in (0, 1):
        network().fit(*TASKS[0], verbose=0, callbacks=[tracker.task(task)])
    with pytest.raises(ValueError, match="'task_1' after 'task_2'"):
        tracker.task(0)
    tracker = kg.callbacks.TaskAccuracy(TASKS[:1])
    for _ in range(2):
        network().fit(*TASKS[0], verbose=0, callbacks=[tracker])
    with pytest.raises(ValueError, match=r"2 trainings for 1 tasks.*tracker\.task"):
        tracker.plot()


@pytest.mark.parametrize("every", [None, 1])
def test_weights_that_are_restored_at_the_end_are_the_ones_measured(every):
    model = network()
    # By the largest loss the first epoch is the best one.
    restore = keras.callbacks.EarlyStopping("loss", mode="max", restore_best_weights=True)
    tracker = kg.callbacks.TaskAccuracy(TASKS, every=every)
    model.fit(*TASKS[0], epochs=8, verbose=0, callbacks=[restore, tracker])
    np.testing.assert_allclose(tracker.accuracy, [accuracies(model)], rtol=1e-6)


def test_names_batches_and_weights():
    x, y = TASKS[0]
    weight = (np.arange(len(y)) < 10).astype("float32")
    tasks = {
        "arrays": (x, y),
        "weighted": [x, y, weight],
        "batches": tf.data.Dataset.from_tensor_slices((x, y)).batch(7),
    }
    model = network(metrics=[], weighted_metrics=["accuracy"])
    tracker = kg.callbacks.TaskAccuracy(tasks, batch_size=16)
    model.fit(x, y, verbose=0, callbacks=[tracker])
    right = np.argmax(model(x), axis=1) == y
    assert tracker.names == list(tasks)
    expected = [[right.mean(), right[:10].mean(), right.mean()]]
    np.testing.assert_allclose(tracker.accuracy, expected, rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_training_is_the_same_without_it(jit_compile):
    x, y = TASKS[0]
    results = []
    for callbacks in ([], [kg.callbacks.TaskAccuracy(TASKS, every=1)]):
        keras.utils.set_random_seed(0)
        model = network(jit_compile=jit_compile)
        history = model.fit(
            x, y, epochs=3, batch_size=8, validation_split=0.2, verbose=0, callbacks=callbacks
        ).history
        results.append((history, model.get_weights()))
    for key, values in results[0][0].items():
        assert values == results[1][0][key]
    for plain, observed in zip(results[0][1], results[1][1]):
        np.testing.assert_array_equal(plain, observed)


def test_states_and_seeds_are_put_back():
    def stateful():
        model = keras.Sequential(
            [
                keras.Input((4,), batch_size=8),
                kg.RateCoding(3, seed=1),
                keras.layers.SimpleRNN(4, stateful=True),
                keras.layers.Dense(2, "softmax"),
            ]
        )
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    x, y = np.abs(X) / 4, TASKS[0][1]
    weights = []
    for callbacks in ([], [kg.callbacks.TaskAccuracy([(x, y)], every=1, batch_size=8)]):
        keras.utils.set_random_seed(0)
        model = stateful()
        model.fit(x, y, epochs=2, batch_size=8, verbose=0, callbacks=callbacks)
        weights.append([np.array(v) for v in model.variables])
    for plain, observed in zip(*weights):
        np.testing.assert_array_equal(plain, observed)


def test_a_model_that_is_built_by_its_first_call():
    model = keras.Sequential([keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    tracker = kg.callbacks.TaskAccuracy(TASKS)
    model.fit(*TASKS[0], verbose=0, callbacks=[tracker])
    np.testing.assert_allclose(tracker.accuracy, [accuracies(model)], rtol=1e-6)


def test_plot():
    pytest.importorskip("matplotlib").use("agg")
    tracker = kg.callbacks.TaskAccuracy(TASKS)
    network().fit(X, TASKS[0][1], verbose=0, callbacks=[tracker])
    labels = tracker.plot().axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == tracker.names


def test_bad_use():
    for tasks in (TASKS[0], X, iter(TASKS), {"a": X}, [(X,)]):
        with pytest.raises(TypeError, match="test set"):
            kg.callbacks.TaskAccuracy(tasks)
    with pytest.raises(ValueError, match="one test set at least"):
        kg.callbacks.TaskAccuracy([])
    with pytest.raises(ValueError, match="`every` must be"):
        kg.callbacks.TaskAccuracy(TASKS, every=0)
    with pytest.raises(ValueError, match="`batch_size` must be a positive int"):
        kg.callbacks.TaskAccuracy(TASKS, batch_size=1.5)
    with pytest.raises(TypeError, match="`metric` must be a string"):
        kg.callbacks.TaskAccuracy(TASKS, metric=keras.metrics.Accuracy())
    with pytest.raises(ValueError, match=r"needs the metric 'accuracy'.*\['loss'\]"):
        network(metrics=[]).fit(X, TASKS[0][1], callbacks=[kg.callbacks.TaskAccuracy(TASKS)])
