import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg
from tests import reference


def network(depth=3):
    hidden = [layers.Dense(20, "relu", name=f"h{i}") for i in range(depth)]
    return keras.Sequential([keras.Input((10,)), *hidden, layers.Dense(3, name="out")])


def rows(text):
    """Maps the first column to the cells of its (first) row."""
    lines = text.splitlines()
    starts = [i for i, c in enumerate(lines[1]) if c == "-" and (i == 0 or lines[1][i - 1] == " ")]
    table = {}
    for line in lines[2 : lines.index("")]:
        cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None])]
        table.setdefault(cells[0], cells)
    return table


def mean_factor(layer):
    return reference.dense_factor(layer.kernel).mean()


def test_numbers_of_a_plain_model():
    model = network()
    table = rows(kg.summary(model))
    nothing = ["-"] * 3
    assert table["h0"] == ["h0", "kernel", "20", *nothing, "no: plain training", "1.00"]
    assert table["out"] == ["out", "kernel", "3", *nothing, "no: output layer", "1.00"]


def test_numbers_of_a_propagated_model():
    model = network()
    text = kg.summary(kg.propagate(model))
    factor = reference.dense_factor(model.get_layer("h2").kernel)
    expected = [f"{v:.3f}" for v in (factor.mean(), factor.min(), factor.max())]
    gain = f"{factor.mean():.2f}"
    assert rows(text)["h2"] == ["h2", "kernel", "20", *expected, "yes: error", gain]
    assert rows(text)["out"][3:] == ["-", "-", "-", "no: output layer", "1.00"]


def test_the_words_of_a_table_are_told_below_it():
    model = network()
    notes = kg.summary(model).split("\n\n")[1].splitlines()
    assert [line.split(" - ")[0] for line in notes] == ["error gain"]
    notes = kg.summary(kg.propagate(model)).split("\n\n")[1].splitlines()
    assert [line.split(" - ")[0] for line in notes] == ["yes: error", "error gain"]
    rule = kg.FeedbackAlignment(model, modulation=kg.Modulation())
    notes = kg.summary(rule).split("\n\n")[1].splitlines()
    assert [line.split(" - ")[0] for line in notes] == ["yes: error", "error gain", "unknown"]
    model.compile(kg.Grapes("sgd", model=model), "mse")
    notes = kg.summary(model).split("\n\n")[1].splitlines()
    assert [line.split(" - ")[0] for line in notes] == ["yes: update", "error gain"]


def test_error_gain_is_the_product_of_the_mean_factors_to_the_output():
    model = network()
    means = [mean_factor(model.get_layer(f"h{i}")) for i in range(3)]
    table = rows(kg.summary(kg.propagate(model)))
    assert [table[f"h{i}"][-2] for i in range(3)] == ["yes: error"] * 3
    for i in range(3):
        assert float(table[f"h{i}"][-1]) == pytest.approx(np.prod(means[i:]), abs=0.006)
    assert table["out"][-1] == "1.00"


def test_error_gain_takes_the_largest_way_through_a_graph():
    x = keras.Input((6,))
    a = layers.Dense(6, name="a")(x)
    b = layers.Dense(6, name="b")(a)
    model = keras.Model(x, layers.Dense(2, name="out")(a + b))
    table = rows(kg.summary(kg.propagate(model)))
    means = {name: mean_factor(model.get_layer(name)) for name in "ab"}
    assert float(table["a"][-1]) == pytest.approx(means["a"] * means["b"], abs=0.006)
    assert float(table["b"][-1]) == pytest.approx(means["b"], abs=0.006)


def test_model_with_a_grapes_optimizer():
    model = network()
    model.get_layer("h1").trainable = False
    model.compile(kg.Grapes("sgd", model=model, modulation=kg.Modulation((0, 1))), "mse")
    for _ in range(2):
        table = rows(kg.summary(model))
        assert [table[n][-2] for n in ("h0", "h1", "h2", "out")] == [
            "yes: update",
            "no: frozen",
            "yes: update",
            "no: output layer",
        ]
        assert table["h0"][5] == "1.000", "factors are those of the optimizer's modulation"
        assert table["h0"][-1] == "1.00"
        model.fit(np.zeros((4, 10)), np.zeros((4, 3)), verbose=0)


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer"
)
def test_model_with_grapes_among_several_optimizers():
    model = network()
    by_name = {
        ".*h0/kernel": kg.Grapes("sgd", model=model, modulation=kg.Modulation((0, 1))),
        ".*h1/kernel": kg.Grapes("sgd", model=model, modulation=kg.Modulation((0, 3))),
    }
    chosen = keras.optimizers.OptimizerMap(keras.optimizers.SGD(), by_name)
    model.compile(keras.optimizers.MultiOptimizer(chosen), "mse")
    model.fit(np.zeros((4, 10)), np.zeros((4, 3)), verbose=0)
    table = rows(kg.summary(model))
    assert [table[n][-2] for n in ("h0", "h1")] == ["yes: update"] * 2
    assert table["h2"][-2].startswith("no") and table["out"][-2] == "no: output layer"
    assert table["h0"][5] == "1.000" and float(table["h1"][5]) > 1, "each by its own modulation"


def test_optimizer():
    model = network(2)
    optimizer = kg.Grapes("sgd")
    optimizer.build(model.trainable_variables)
    text = kg.summary(optimizer)
    lines = [line.split() for line in text.splitlines()]
    assert [line[0] for line in lines if line[6:8] == ["yes:", "update"]] == [
        model.get_layer("h0").path,
        model.get_layer("h1").path,
    ]
    assert text.count("not a kernel") == 3
    assert text.count("output layer") == 1


def test_what_is_not_modulated_says_why():
    class Matrix(layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[-1], 4), name="w")

        def call(self, x):
            return keras.ops.matmul(x, self.w)

    class OwnKernel(Matrix):
        def build(self, input_shape):
            super().build(input_shape)
            self.kernel = self.w

    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 8, name="embed")(inputs)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.BatchNormalization(name="norm")(x)
    x = OwnKernel(name="own")(Matrix(name="matrix")(x))
    x = layers.LSTM(4, name="lstm")(x)
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    with pytest.warns(UserWarning, match="lstm"):
        model = kg.propagate(model)
    table = rows(kg.summary(model))
    assert table["embed"][-2] == "no: not a kernel"
    assert table["norm"][-2] == "no: not a kernel"
    assert table["matrix"][-2] == "no: unknown weights, see register_grouping"
    assert table["own"][-2] == "yes: error (nodes guessed: last axis)"
    assert table["lstm"][:3] == ["lstm", "kernel + recurrent_kernel", "16"]
    assert table["lstm"][-2] == "no: nodes are not the channels of its output"
    assert table["attention"][-2] == "yes: error, 1 of 4 kernels"


def test_feedback_model():
    model = network()
    table = rows(kg.summary(kg.FeedbackAlignment(model, modulation=kg.Modulation())))
    factor = reference.dense_factor(model.get_layer("h1").kernel)
    assert table["h1"][3] == f"{factor.mean():.3f}"
    assert table["h1"][-2:] == ["yes: error", "unknown"]
    assert table["out"][-2] == "no: output layer"
    table = rows(kg.summary(kg.FeedbackAlignment(model)))
    assert table["h1"][-2:] == ["no: plain training", "1.00"]


def test_subclassed_model_has_an_unknown_gain_only_if_it_modulates():
    class Net(keras.Model):
        def __init__(self, wrap):
            super().__init__()
            hidden = layers.Dense(4, name="hidden")
            self.hidden = kg.ErrorModulation(hidden) if wrap else hidden
            self.out = layers.Dense(2, name="out")

        def call(self, x):
            return self.out(self.hidden(x))

    for wrap, gain in ((False, "1.00"), (True, "unknown")):
        model = Net(wrap)
        model(np.zeros((1, 3)))
        table = rows(kg.summary(model))
        assert table["hidden"][-1] == gain
        assert table["out"][-2] == "no: output layer, guessed"


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match=r"`keras\.Model` or a `keras_grapes\.Grapes`"):
        kg.summary(keras.optimizers.SGD())
    with pytest.raises(ValueError, match=r"model\.build"):
        kg.summary(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(ValueError, match=r"optimizer\.build"):
        kg.summary(kg.Grapes("sgd"))


def test_attention_is_one_row():
    i = keras.Input((5, 8))
    attention = layers.MultiHeadAttention(2, 3, name="attention")(i, i)
    model = keras.Model(i, layers.Dense(2, name="head")(attention))
    row = rows(kg.summary(kg.propagate(model)))["attention"]
    assert row[:3] == ["attention", "attention_output/kernel", "8"]
    assert row[-2] == "yes: error, 1 of 4 kernels"

    model.compile(kg.Grapes("sgd", model=model), "mse")
    row = rows(kg.summary(model))["attention"]
    assert row[:3] == ["attention", "4 kernels", "26"], "three of 2 x 3 nodes, one of 8"
    layer = model.get_layer("attention")
    kernels = [w for w in layer.weights if w.name == "kernel"]
    # Of the output projection, (heads, size, nodes), two axes come in; of the others one.
    sums = [np.abs(k.numpy()).sum((0, 1) if k.shape[0] == 2 else 0).ravel() for k in kernels]
    factor = np.concatenate([np.clip(2 * s / s.max(), 1, 2) for s in sums])
    assert row[3:6] == [f"{v:.3f}" for v in (factor.mean(), factor.min(), factor.max())]
    assert row[-2] == "yes: update"


def test_layers_with_lora_are_known_by_the_layer():
    model = network(2)
    for layer in model.layers[:2]:
        layer.enable_lora(2)
    table = rows(kg.summary(kg.propagate(model)))
    assert [table[name][-2] for name in ("h0", "h1", "out")] == [
        "yes: error",
        "yes: error",
        "no: output layer",
    ]
    history = kg.callbacks.ModulationHistory()
    propagated = kg.propagate(model)
    propagated.compile("sgd", "mse")
    propagated.fit(np.zeros((4, 10)), np.zeros((4, 3)), verbose=0, callbacks=[history])
    assert list(history.latest) == ["h0", "h1"]


class ActorCritic(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        for name in ("body", "actor", "critic"):
            setattr(self, name, keras.layers.Dense(3, name=name))

    def call(self, x):
        x = self.body(x)
        return self.actor(x), self.critic(x)


@pytest.mark.parametrize(
    "output_layers, expected",
    [
        (None, ["yes: update", "yes: update", "no: output layer, guessed"]),
        (["actor", "critic"], ["yes: update", "no: output layer", "no: output layer"]),
        ([], ["yes: update"] * 3),
    ],
)
def test_output_layers_that_were_said_to_the_optimizer(output_layers, expected, tmp_path):
    model = ActorCritic()
    model(np.zeros((1, 3)))
    model.compile(kg.Grapes("sgd", model=model, output_layers=output_layers), "mse")
    assert [row[-2] for row in rows(kg.summary(model)).values()] == expected
    path = tmp_path / "model.keras"
    for _ in range(2):
        model.save(path)
        # Its name has another number, as those of layers do in a model that is made again.
        model = keras.saving.load_model(path, custom_objects={"ActorCritic": ActorCritic})
        assert [row[-2] for row in rows(kg.summary(model)).values()] == expected


def test_without_a_model_the_output_layer_is_a_guess():
    dense = [keras.layers.Dense(3), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((3,)), *dense])
    grapes = kg.Grapes("sgd")
    grapes.build(model.trainable_variables)
    assert "no: output layer, guessed" in kg.summary(grapes)


@pytest.mark.parametrize("change", ["int8", "lora"])
def test_layers_whose_kernel_is_computed(change):
    dense = [keras.layers.Dense(3, name="h"), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((3,)), *dense])
    layer = model.layers[0]
    layer.enable_lora(1) if change == "lora" else layer.quantize(change)
    assert rows(kg.summary(kg.propagate(model)))["h"][-2] == "yes: error"
