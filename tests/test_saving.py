"""Exported models: what is in them, and that TensorFlow alone serves them."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.core.protobuf import saved_model_pb2

import keras_grapes as kg
from tests.training.models import RULES

HERE = pathlib.Path(__file__).parent
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((5, 6)).astype("float32")
SEQUENCES = RANDOM.random((5, 7, 6)).astype("float32")
TOKENS = RANDOM.integers(0, 7, (5, 3)).astype("int32")
LOW_THRESHOLD = {"bias_initializer": keras.initializers.Constant(-0.3)}


def dense(activation="relu"):
    return keras.Sequential(
        [
            keras.Input((6,), name="image"),
            layers.Dense(9, activation, name="first"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(8, activation, name="second"),
            layers.Dense(4, "softmax", name="digit"),
        ]
    )


def spiking(*first, shape=(None, 6), **kwargs):
    return keras.Sequential(
        [
            keras.Input(shape, name="spikes"),
            *first,
            kg.SNU(9, return_sequences=True, **LOW_THRESHOLD, **kwargs),
            kg.SSNU(5, return_sequences=True, recurrent=True),
            layers.GlobalAveragePooling1D(name="rates"),
        ]
    )


def convolutional_spiking():
    return keras.Sequential(
        [
            keras.Input((5, 8, 8, 1), name="frames"),
            kg.ConvSNU2D(4, 3, return_sequences=True, **LOW_THRESHOLD),
            layers.TimeDistributed(layers.Flatten()),
            kg.SNU(3, return_sequences=True, **LOW_THRESHOLD),
            layers.GlobalAveragePooling1D(name="rates"),
        ]
    )


def cells():
    return keras.Sequential(
        [
            keras.Input((None, 6), name="spikes"),
            layers.RNN(kg.SNUCell(9, **LOW_THRESHOLD)),
            layers.Dense(3, name="class"),
        ]
    )


def branched():
    number = keras.Input((6,), name="number")
    token = keras.Input((3,), dtype="int32", name="token")
    embedded = layers.Flatten()(layers.Embedding(7, 4)(token))
    hidden = layers.Dense(8, "relu")(layers.Concatenate()([number, embedded]))
    heads = {"label": layers.Dense(3)(hidden), "value": layers.Dense(1)(hidden)}
    return keras.Model({"number": number, "token": token}, heads)


def shared():
    x = keras.Input((6,), name="x")
    nested = keras.Sequential([keras.Input((6,)), layers.Dense(6, "relu")])
    head = layers.Dense(2, name="head")
    return keras.Model(x, [head(nested(x)), head(x)])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = kg.ErrorModulation(layers.Dense(8, "silu"))
        self.head = layers.Dense(2)

    def call(self, x, training=True):
        return self.head(self.hidden(x)) * (2.0 if training else 1.0)


def subclassed():
    model = Subclassed()
    model(IMAGES)
    return model


def text():
    words = layers.TextVectorization(output_sequence_length=3)
    words.adapt(["a b c", "b c d"])
    return keras.Sequential(
        [
            keras.Input((1,), dtype="string", name="text"),
            words,
            layers.Embedding(8, 4),
            layers.Flatten(),
            layers.Dense(2, name="class"),
        ]
    )


def half(model_function, policy="mixed_float16"):
    keras.config.set_dtype_policy(policy)
    try:
        return model_function()
    finally:
        keras.config.set_dtype_policy("float32")


def trained():
    model = dense()
    model.compile(kg.Grapes("adam", model=model), "mse")
    model.fit(IMAGES, np.zeros((5, 4)), verbose=0)
    return model


# Function that makes the model, inputs by name, names of the outputs.
MODELS = {
    "plain": (dense, {"image": IMAGES}, ["digit"]),
    "trained": (trained, {"image": IMAGES}, ["digit"]),
    "propagated": (lambda: kg.propagate(dense("silu")), {"image": IMAGES}, ["digit"]),
    **{
        name: (
            lambda rule=rule: rule(dense("tanh"), modulation=kg.Modulation(), seed=0),
            {"image": IMAGES},
            ["digit"],
        )
        for name, rule in RULES.items()
    },
    "spiking": (lambda: kg.propagate(spiking()), {"spikes": SEQUENCES}, ["rates"]),
    "stepwise": (lambda: spiking(input_activation="softplus"), {"spikes": SEQUENCES}, ["rates"]),
    "masked": (lambda: spiking(layers.Masking(0.0)), {"spikes": SEQUENCES}, ["rates"]),
    "cells": (lambda: kg.propagate(cells()), {"spikes": SEQUENCES}, ["class"]),
    "frames": (
        lambda: kg.propagate(convolutional_spiking()),
        {"frames": RANDOM.random((2, 5, 8, 8, 1)).astype("float32")},
        ["rates"],
    ),
    "coded": (
        lambda: kg.propagate(
            spiking(kg.RateCoding(9, rate=0.5, test_steps=30, seed=1), shape=(6,))
        ),
        {"spikes": IMAGES},
        ["rates"],
    ),
    "branched": (
        lambda: kg.propagate(branched()),
        {"number": IMAGES, "token": TOKENS},
        ["label", "value"],
    ),
    "shared": (lambda: kg.propagate(shared()), {"x": IMAGES}, ["head", "head_1"]),
    "subclassed": (subclassed, {"image": IMAGES}, ["output_0"]),
    "half": (lambda: half(lambda: kg.propagate(dense())), {"image": IMAGES}, ["digit"]),
    "text": (text, {"text": np.array([["a b"], ["d x"]])}, ["class"]),
}


def signature_of(folder):
    graph = read(folder).meta_graphs[0].signature_def["serving_default"]
    return {
        part: {name: info.name for name, info in getattr(graph, part).items()}
        for part in ("inputs", "outputs")
    }


def read(folder):
    return saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())


def served(folder):
    return tf.saved_model.load(str(folder)).signatures["serving_default"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folder with each model as `name/1`, its inputs and predictions as `name.npz`."""
    root = tmp_path_factory.mktemp("exported")
    for name, (make, inputs, output_names) in MODELS.items():
        keras.utils.set_random_seed(0)
        model = make()
        signature = None
        if name == "subclassed":
            signature = keras.Input((6,), name="image")
        kg.export_saved_model(model, root / name / "1", input_signature=signature)
        fed = {n: tf.constant(x) for n, x in inputs.items()}
        outputs = model.predict(fed if len(fed) > 1 else fed.popitem()[1], verbose=0)
        if not isinstance(outputs, dict):
            outputs = dict(zip(output_names, keras.tree.flatten(outputs), strict=True))
        arrays = {f"in:{n}": x for n, x in inputs.items()}
        arrays.update((f"out:{n}", outputs[n]) for n in output_names)
        np.savez(root / f"{name}.npz", **arrays)
        (root / f"{name}.json").write_text(json.dumps(signature_of(root / name / "1")))
    return root


def run_alone(*command):
    """Runs Python where this package is not on the path; returns what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", *map(str, command)],
        capture_output=True,
        text=True,
        env=environment | {"CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_tensorflow_alone_serves_what_the_model_predicts(exported):
    printed = run_alone(HERE / "served" / "by_tensorflow.py", exported)
    assert printed.split() == [word for name in sorted(MODELS) for word in ("served", name)]


def test_the_c_library_serves_what_the_model_predicts(exported):
    library = pathlib.Path(tf.__file__).parent / "libtensorflow_cc.so.2"
    if not library.exists():
        pytest.skip("TensorFlow's wheel has no C library of its own on this platform")
    printed = run_alone(HERE / "served" / "by_c_library.py", library, exported)
    numeric = sorted(MODELS.keys() - {"text"})
    assert printed.split() == [word for name in numeric for word in ("served", name)]


def command_line(*arguments):
    return run_alone("-m", "tensorflow.python.tools.saved_model_cli", *arguments)


def run_by_command_line(exported, name, tmp_path):
    """Outputs that `saved_model_cli run` gives for the stored inputs."""
    arrays = np.load(exported / f"{name}.npz")
    feeds = []
    for key in arrays:
        if key.startswith("in:"):
            np.save(tmp_path / f"{key[3:]}.npy", arrays[key])
            feeds.append(f"{key[3:]}={tmp_path / key[3:]}.npy")
    command_line(
        *("run", "--dir", exported / name / "1", "--tag_set", "serve"),
        *("--signature_def", "serving_default", "--inputs", ";".join(feeds)),
        *("--outdir", tmp_path / "out", "--overwrite"),
    )
    for key in arrays:
        if key.startswith("out:"):
            value = np.load(tmp_path / "out" / f"{key[4:]}.npy")
            np.testing.assert_allclose(value, arrays[key], atol=2e-6, err_msg=name)


def test_saved_model_cli_runs_what_the_model_predicts(exported, tmp_path):
    run_by_command_line(exported, "spiking", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"text"}))
def test_saved_model_cli_shows_and_runs_every_model(name, exported, tmp_path):
    _, inputs, outputs = MODELS[name]
    shown = command_line("show", "--dir", exported / name / "1", "--all")
    assert "signature_def['serving_default']" in shown
    for kind, names in (("inputs", inputs), ("outputs", outputs)):
        for key in names:
            assert f"{kind}['{key}']" in shown
    run_by_command_line(exported, name, tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_of_training_is_in_it(name, exported):
    folder = exported / name / "1"
    for file in folder.rglob("*"):
        content = file.read_bytes().lower() if file.is_file() else b""
        for trace in (b"keras_grapes", b"modul", b"feedback", b"adam", b"gradient"):
            assert trace not in content, (file.name, trace)
    for function in read(folder).meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            assert b"CustomGradient" not in node.attr["_gradient_op_type"].s
            assert node.op != "IdentityN"


@pytest.mark.parametrize("name", MODELS)
def test_names_are_the_models_and_the_batch_size_is_free(name, exported):
    _, inputs, outputs = MODELS[name]
    signature = read(exported / name / "1").meta_graphs[0].signature_def["serving_default"]
    assert sorted(signature.inputs) == sorted(inputs)
    assert sorted(signature.outputs) == sorted(outputs)
    for info in [*signature.inputs.values(), *signature.outputs.values()]:
        assert info.tensor_shape.dim[0].size == -1


def stored_shapes(folder):
    variables = tf.train.list_variables(str(folder / "variables" / "variables"))
    return sorted(shape for name, shape in variables if name != "_CHECKPOINTABLE_OBJECT_GRAPH")


@pytest.mark.parametrize("name", ["plain", "trained", "propagated", "fa", "dfa", "ifa"])
def test_each_weight_is_stored_once(name, exported):
    shapes = [[6, 9], [9], [9], [9], [9], [9], [9, 8], [8], [8, 4], [4]]
    assert stored_shapes(exported / name / "1") == sorted(shapes)


def test_seed_of_random_spikes_is_the_one_extra_variable(exported):
    spikes, coded = (stored_shapes(exported / name / "1") for name in ("spiking", "coded"))
    assert coded == sorted([*spikes, [2]])


def test_any_batch_size_and_length_of_time(exported):
    run = served(exported / "spiking" / "1")
    for batch, time in ((1, 3), (4, 20)):
        assert run(spikes=tf.ones((batch, time, 6)))["rates"].shape == (batch, 5)


def test_random_spikes_are_drawn_anew_for_every_request(exported):
    run = served(exported / "coded" / "1")
    x = tf.constant(IMAGES)
    assert np.abs(run(spikes=x)["rates"] - run(spikes=x)["rates"]).max() > 0


def test_the_model_stays_as_it_is_and_trains_on(tmp_path):
    model = kg.propagate(dense())
    model.compile("sgd", "mse")
    model.fit(IMAGES, np.zeros((5, 4)), verbose=0)
    before = model.get_weights()
    kg.export_saved_model(model, tmp_path / "1")
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert isinstance(model.layers[0], kg.ErrorModulation)
    model.fit(IMAGES, np.zeros((5, 4)), verbose=0)


def test_returns_the_folder_and_leaves_nothing_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = dense()
    assert kg.export_saved_model(model, "served/digits/1") == tmp_path / "served/digits/1"
    kg.export_saved_model(model, pathlib.Path("served") / "digits" / "2")
    (tmp_path / "served/digits/3").mkdir()
    kg.export_saved_model(model, "served/digits/3/")
    assert sorted(os.listdir("served/digits")) == ["1", "2", "3"]


def test_a_version_is_replaced_only_when_told_to(tmp_path):
    path = tmp_path / "1"
    model = dense()
    kg.export_saved_model(model, path)
    first = served(path)(image=tf.constant(IMAGES))["digit"]
    model.set_weights([w + 0.1 * RANDOM.normal(size=w.shape) for w in model.get_weights()])
    with pytest.raises(ValueError, match="`path` holds a SavedModel already"):
        kg.export_saved_model(model, path)
    np.testing.assert_array_equal(served(path)(image=tf.constant(IMAGES))["digit"], first)
    kg.export_saved_model(model, path, overwrite=True)
    second = served(path)(image=tf.constant(IMAGES))["digit"]
    np.testing.assert_allclose(second, model.predict(IMAGES, verbose=0), atol=1e-6)
    assert np.abs(first - second).max() > 1e-3
    assert os.listdir(tmp_path) == ["1"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_not_a_saved_model_is_never_replaced(overwrite, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match="`path` must be a new folder"):
            kg.export_saved_model(dense(), path, overwrite=overwrite)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_failed_export_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "1"
    kg.export_saved_model(dense(), path)
    before = (path / "saved_model.pb").read_bytes()
    save = tf.saved_model.save

    def break_off(module, folder, **kwargs):
        save(module, folder, **kwargs)
        assert sorted(os.listdir(tmp_path))[-1] == "1"
        assert not any(name.isdigit() for name in os.listdir(tmp_path) if name != "1")
        raise OSError("No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", break_off)
    with pytest.raises(OSError, match="No space left"):
        kg.export_saved_model(dense(), path, overwrite=True)
    assert os.listdir(tmp_path) == ["1"]
    assert (path / "saved_model.pb").read_bytes() == before


@pytest.mark.parametrize("path", [None, 1, b"served/1"])
def test_wrong_path(path):
    with pytest.raises(TypeError, match="`path` must be a string or a path"):
        kg.export_saved_model(dense(), path)


def test_remote_path_is_refused():
    with pytest.raises(ValueError, match="`path` must be a local folder"):
        kg.export_saved_model(dense(), "gs://bucket/1")


def test_wrong_model(tmp_path):
    with pytest.raises(TypeError, match=r"takes a `keras\.Model`"):
        kg.export_saved_model(layers.Dense(3), tmp_path / "1")
    with pytest.raises(ValueError, match="has none yet"):
        kg.export_saved_model(keras.Sequential([layers.Dense(3)]), tmp_path / "1")
    with pytest.raises(ValueError, match="`input_signature` is missing"):
        kg.export_saved_model(subclassed(), tmp_path / "1")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "signature, name",
    [
        (tf.TensorSpec((None, 6), "float32"), "inputs"),
        (keras.layers.InputSpec(dtype="float32", shape=(5, 6), name="my-input"), "my_input"),
        ([keras.Input((6,), name="image")], "image"),
        (tf.TensorSpec((None, 6), tf.float32, name="1x"), "arg_1x"),
        (tf.TensorSpec((None, 6), tf.float32, name="in"), "in_"),
        (tf.TensorSpec((None, 6), tf.float32, name="self"), "self_"),
    ],
    ids=["tensor spec", "input spec", "list", "number first", "keyword", "self"],
)
def test_input_signature(signature, name, tmp_path):
    model = subclassed()
    run = served(kg.export_saved_model(model, tmp_path / "1", input_signature=signature))
    output = run(**{name: tf.constant(IMAGES)})["output_0"]
    np.testing.assert_allclose(output, model.predict(IMAGES, verbose=0), atol=1e-6)


@pytest.mark.parametrize("signature", ["image", (None, 6), tf.TensorSpec(None), {"image": 6}])
def test_wrong_input_signature(signature, tmp_path):
    with pytest.raises(TypeError, match="`input_signature` must be"):
        kg.export_saved_model(dense(), tmp_path / "1", input_signature=signature)


def test_names_that_become_the_same_are_told_apart(tmp_path):
    first, second = keras.Input((6,), name="a.b"), keras.Input((6,), name="a_b")
    model = keras.Model([first, second], layers.Dense(2, name="y")(first - second))
    run = served(kg.export_saved_model(model, tmp_path / "1"))
    x = tf.constant(IMAGES)
    np.testing.assert_allclose(run(a_b=2 * x, a_b_1=x)["y"], model([2 * x, x]), atol=1e-6)


def test_sequential_built_by_a_call_and_a_model_that_was_loaded(tmp_path):
    model = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(2, name="class")])
    model(IMAGES)
    model = kg.propagate(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for place, each in enumerate((model, loaded)):
        run = served(kg.export_saved_model(each, tmp_path / str(place)))
        (name,) = run.structured_input_signature[1]
        np.testing.assert_allclose(
            run(**{name: tf.constant(IMAGES[:2])})["class"], model(IMAGES[:2]), atol=1e-6
        )


def test_stateful_layers_keep_their_batch_size_and_state(tmp_path):
    model = keras.Sequential(
        [keras.Input(batch_shape=(5, 7, 6), name="x"), kg.SSNU(3, stateful=True, name="y")]
    )
    run = served(kg.export_saved_model(model, tmp_path / "1"))
    x = tf.constant(SEQUENCES)
    for _ in range(2):
        np.testing.assert_allclose(run(x=x)["y"], model(x), atol=1e-6)


@pytest.mark.parametrize("kind", ["list", "dict", "object"])
def test_lookup_tables_deep_in_a_layer(kind, tmp_path):
    keys, values = tf.constant([1, 2], "int64"), tf.constant([10.0, 20.0])
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0.0)

    class Holder:
        def __init__(self):
            self.inner = {"table": table}

    class Look(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.held = {"list": [table], "dict": {"a": [table]}, "object": Holder()}[kind]

        def call(self, x):
            find = {
                "list": lambda: self.held[0],
                "dict": lambda: self.held["a"][0],
                "object": lambda: self.held.inner["table"],
            }
            return find[kind]().lookup(x)

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, "float32")

    i = keras.Input((2,), dtype="int64", name="key")
    model = keras.Model(i, Look()(i))
    serve = served(kg.export_saved_model(model, tmp_path / "1"))
    (found,) = serve(key=tf.constant([[1, 3]], "int64")).values()
    np.testing.assert_array_equal(found, [[10.0, 0.0]])
