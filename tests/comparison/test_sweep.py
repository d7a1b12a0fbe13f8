import json

import keras
import numpy as np
import pytest

import keras_grapes as kg

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 5)).astype("float32")
Y = X[:, :3].argmax(axis=1)


def make_model():
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )


def make_compiled():
    model = make_model()
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def compare(make=make_compiled, x=X, y=Y, **changes):
    shared = {"learning_rates": 0.1, "seeds": 2, "epochs": 2, "batch_size": 16, "verbose": 0}
    return kg.compare(make, x, y, **{**shared, **changes})


def results(found, arm):
    return [(r["history"], r["validation"], r["test"]) for r in found.runs if r["arm"] == arm]


def test_arms_that_are_equal_end_equal():
    # Same weights, batches and dropout in every arm, in whatever order the runs come.
    unchanged = kg.Modulation(bounds=(1.0, 1.0))
    arms = {
        "plain": None,
        "again": None,
        "factor 1": unchanged,
        "GRAPES": kg.Modulation(),
    }
    found = compare(arms=arms, learning_rates=(0.1, 0.5))
    plain = results(found, "plain")
    assert results(found, "again") == plain
    for (history, *_), (expected, *_) in zip(results(found, "factor 1"), plain):
        np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    assert results(found, "GRAPES") != plain
    assert plain[0] != plain[2]  # Of another seed.


def test_a_run_is_what_fit_does_on_its_batches():
    from keras_grapes.comparison.data import Split

    def make():
        return keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, activation="softmax")])

    found = compare(
        make,
        arms=("plain",),
        optimizer=keras.optimizers.Adam(0.5),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        seeds=[3],
        learning_rates=0.01,
        epochs=3,
    )
    keras.utils.set_random_seed(3)
    model = make()
    model.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    split = Split(X, Y, 0.2, 0.2, None)
    assert split.sizes == (54, 18, 18)
    losses, best = [], (-1, None)
    for epoch in range(3):
        order = np.random.default_rng((3, epoch)).permutation(54)
        x, y = (part[order] for part in split.train)
        losses += model.fit(x, y, batch_size=16, shuffle=False, verbose=0).history["loss"]
        best = max(best, (model.evaluate(*split.validation, verbose=0)[1], -epoch))
    (run,) = found.runs
    np.testing.assert_allclose(run["history"]["loss"], losses, rtol=1e-5)
    assert run["validation"] == pytest.approx(best[0])
    assert run["best_epoch"] == 1 - best[1]


def test_parts_of_the_data_share_nothing():
    from keras_grapes.comparison.data import Split

    numbers = np.arange(50.0)
    split = Split(numbers, numbers, 0.1, 0.3, None)
    parts = [part[0] for part in (split.train, split.validation, split.test)]
    assert [len(part) for part in parts] == [30, 5, 15]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), numbers)
    split = Split(numbers, numbers, 0.1, 0.3, (numbers[:7], numbers[:7]))
    assert split.sizes == (45, 5, 7)


def test_it_goes_on_where_its_records_end(tmp_path):
    path = tmp_path / "folder" / "runs.jsonl"
    whole = compare(records=path)
    assert len(path.read_text().splitlines()) == len(whole.runs) == 8
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:5]) + lines[5][:30])
    again = compare(records=path)
    assert path.read_text().splitlines()[:5] == [line.rstrip() for line in lines[:5]]
    assert len(path.read_text().splitlines()) == 8
    for run, expected in zip(again.runs, whole.runs, strict=True):
        assert run["arm"] == expected["arm"] and run["seed"] == expected["seed"]
        assert run["test"] == pytest.approx(expected["test"], abs=1e-6)
    assert str(again) == str(whole)

    def refuse():
        raise AssertionError("trained again")

    assert str(compare(records=path, callbacks=refuse)) == str(whole)
    # More seeds train what is new.
    assert len(compare(records=path, seeds=3).runs) == 12
    assert len(path.read_text().splitlines()) == 12


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 1},
        {"x": X + 1},
        {"make": lambda: keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])},
        {"optimizer": "adam"},
        {"method": "optimizer"},
    ],
    ids=["epochs", "data", "model", "optimizer", "method"],
)
def test_records_of_something_else_are_not_taken(tmp_path, changes):
    path = tmp_path / "runs.jsonl"
    shared = {"arms": ("plain",), "seeds": 1, "records": path}
    shared |= {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
    compare(make_model, **shared)
    compare(changes.pop("make", make_model), **shared, **changes)
    assert len(path.read_text().splitlines()) == 2


def test_a_line_that_is_no_record_is_named(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps({"settings": {}}) + "\n")
    with pytest.raises(ValueError, match=r"line 1 of .*runs\.jsonl is not a record"):
        compare(records=path)


def test_other_arms_optimizers_rules_and_callbacks():
    seen = []

    class Note(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(self)

    arms = {
        "SGD": None,
        "Adam": lambda model, optimizer: (model, keras.optimizers.Adam(0.01)),
        "FA": lambda model, optimizer: kg.FeedbackAlignment(model, modulation=kg.Modulation()),
    }
    note = Note()
    found = compare(arms=arms, callbacks=[note, keras.callbacks.EarlyStopping(patience=1)], seeds=1)
    assert len(seen) == len(set(map(id, seen))) == 3 and note not in seen
    assert "Adam against SGD: not decided" in found.verdict()
    found = compare(method=kg.DirectFeedbackAlignment, seeds=1)
    assert found.settings["method"] == "DirectFeedbackAlignment"
    assert all(run["test"] is not None for run in found.runs)
    found = compare(method="optimizer", seeds=1, callbacks=lambda: [Note()], optimizer="rmsprop")
    assert len(found.runs) == 4


def test_several_inputs_and_a_loss_alone():
    def make():
        a, b = keras.Input((5,), name="a"), keras.Input((2,), name="b")
        hidden = keras.layers.Dense(4, activation="tanh")(keras.layers.concatenate([a, b]))
        return keras.Model({"a": a, "b": b}, keras.layers.Dense(1)(hidden))

    x = {"a": X, "b": X[:, :2]}
    found = compare(make, x, X[:, :1], loss="mse", seeds=1, arms=("plain", "GRAPES"))
    assert found.metric == "loss"
    best = [min(run["history"]["val_loss"]) for run in found.runs]
    assert [run["validation"] for run in found.runs] == pytest.approx(best)


def test_rates_by_default_are_around_that_of_the_optimizer():
    found = compare(learning_rates=None, arms=("plain",), optimizer=keras.optimizers.SGD(0.2))
    assert sorted({run["learning_rate"] for run in found.runs}) == [0.06, 0.2, 0.6]


def test_a_run_that_diverges_is_kept_out():
    found = compare(learning_rates=(0.1, 1e20), seeds=1, epochs=3, arms=("plain", "GRAPES"))
    assert [run["diverged"] for run in found.runs] == [False, True] * 2
    assert found.learning_rates == {"plain": 0.1, "GRAPES": 0.1}


def test_a_bar_shows_the_progress(capsys, tmp_path):
    path = tmp_path / "runs.jsonl"
    compare(arms=("plain",), verbose=1, records=path)
    assert "4/4" in capsys.readouterr().out
    compare(arms=("plain",), verbose=1, records=path)
    assert "2 runs, 2 recorded" in capsys.readouterr().out
    compare(arms=("plain",))
    assert capsys.readouterr().out == ""


def test_the_random_numbers_of_the_function_itself_do_not_unpair():
    generator = np.random.default_rng()

    def make():
        model = make_compiled()
        model.set_weights([generator.normal(size=w.shape) for w in model.get_weights()])
        return model

    found = compare(make, arms={"a": None, "b": None}, seeds=2)
    assert results(found, "a") == results(found, "b")


SAME = make_compiled()


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"make": SAME}, TypeError, "`make_model` must be a function"),
        ({"make": lambda: "model"}, TypeError, "`make_model` must return a `keras.Model`"),
        ({"make": lambda: SAME}, ValueError, "returned the same model twice"),
        (
            {"make": lambda: keras.Sequential([keras.layers.Dense(3)])},
            ValueError,
            "has no weights yet",
        ),
        ({"make": make_model}, ValueError, "`loss` is missing"),
        ({"x": "images"}, TypeError, "`x` must be an array"),
        (
            {"y": Y[:50]},
            ValueError,
            r"`x` and `y` must have one number of rows. Received: \[50, 90\]",
        ),
        ({"x": X[:2], "y": Y[:2]}, ValueError, "leave .* to test on"),
        ({"test_data": (X, Y[:50])}, ValueError, "`test_data` must have one number of rows"),
        ({"test_data": X}, TypeError, "`test_data` must be a pair"),
        ({"validation_split": 0}, ValueError, "`validation_split` must be between 0 and 1"),
        ({"test_split": 1.5}, ValueError, "`test_split` must be between 0 and 1"),
        ({"arms": ("plain", "GRAPE")}, ValueError, "`arms` must have names of"),
        ({"arms": {"mine": 2.0}}, TypeError, r"An arm must be .*Received: arms\['mine'\]=2.0"),
        ({"arms": 2}, TypeError, "`arms` must be a tuple of names.*arms=2"),
        ({"arms": ()}, ValueError, "`arms` must have one arm at least"),
        ({"arms": {"m": lambda m, o: None}}, TypeError, "must return a `keras.Model`"),
        ({"learning_rates": (0.1, -1)}, ValueError, "`learning_rates` must be a positive"),
        ({"learning_rates": True}, ValueError, "`learning_rates` must be a positive"),
        ({"learning_rates": "fast"}, ValueError, "`learning_rates` must be a positive"),
        ({"seeds": 0}, ValueError, "`seeds` must be a positive int"),
        ({"seeds": (1, 1)}, ValueError, "`seeds` must be .* different"),
        ({"epochs": 0}, ValueError, "`epochs` must be a positive int"),
        ({"batch_size": 2.5}, ValueError, "`batch_size` must be a positive int"),
        ({"metric": "f1"}, ValueError, r"`metric` must be one of .*'accuracy'.*Received"),
        ({"mode": "best"}, ValueError, "`mode` must be"),
        ({"method": "local"}, ValueError, "`method` must be one of"),
        ({"callbacks": ["early"]}, TypeError, "`callbacks` must be a list of callbacks"),
        ({"callbacks": 5}, TypeError, "`callbacks` must be a list of callbacks.*callbacks=5"),
        ({"verbose": "auto"}, ValueError, "`verbose` must be 0 or 1. Received: verbose='auto'"),
        ({"records": 5}, TypeError, "`records` must be a path"),
        ({"records": "."}, ValueError, "`records` must be a file"),
        (
            {"optimizer": kg.Grapes("sgd")},
            ValueError,
            "`optimizer` is a `Grapes`",
        ),
        (
            {"optimizer": keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 9))},
            ValueError,
            "perhaps a schedule",
        ),
    ],
)
def test_bad_input_is_named(changes, error, message):
    with pytest.raises(error, match=message):
        compare(**changes)
