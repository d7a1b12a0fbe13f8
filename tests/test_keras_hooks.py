"""What Keras does and does not document, and the package relies on."""

import inspect
import json
import zipfile

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_grapes as kg
from keras_grapes import keras_hooks


def chain():
    return keras.Sequential([keras.Input((3,)), layers.Dense(4, name="a"), layers.Dense(2)])


def test_sublayers_are_listed_in_the_order_of_their_creation_and_at_every_depth():
    inner = keras.Sequential([layers.Dense(2, name="b"), layers.Dense(2, name="a")], name="inner")
    model = keras.Sequential([layers.Dense(2, name="c"), inner])
    assert [layer.name for layer in keras_hooks.sublayers(model)] == ["c", "inner"]
    assert {layer.name for layer in keras_hooks.all_sublayers(model)} == {"c", "inner", "b", "a"}


def test_symbolic_tensors_know_the_call_that_made_them():
    shared = layers.Dense(3)
    i = keras.Input((3,))
    first, second = shared(i), shared(shared(i))
    assert keras_hooks.maker(first) is shared and keras_hooks.maker(np.ones(2)) is None
    assert isinstance(keras_hooks.maker(i), layers.InputLayer)
    node, place = keras_hooks.node_of(second)
    assert node.operation is shared and place == 0
    assert keras_hooks.recorded_calls(shared).index(node) == 2
    assert node.input_tensors[0] is not i and node.output_tensors == [second]
    pair = ops.split(i, 3, axis=-1)
    assert [keras_hooks.node_of(tensor)[1] for tensor in pair] == [0, 1, 2]


def test_a_layer_leads_to_its_graph_by_these_attributes_alone():
    model = chain()
    layer = model.layers[0]
    for name in keras_hooks.GRAPH_ATTRIBUTES:
        assert name in vars(layer)
    rest = {k: v for k, v in vars(layer).items() if k not in keras_hooks.GRAPH_ATTRIBUTES}
    assert not any(model is v or model.layers[1] is v for v in rest.values())


def test_call_of_the_instance_runs_in_place_of_that_of_the_class_and_is_not_tracked():
    layer = layers.Dense(2)
    x = np.ones((1, 3), "float32")
    layer(x)
    tracked = len(keras_hooks.all_sublayers(layer)), len(layer.weights)
    with keras_hooks.replaced(layer, call=lambda inputs: inputs * 2):
        np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), 2 * x)
        assert (len(keras_hooks.all_sublayers(layer)), len(layer.weights)) == tracked
    assert "call" not in vars(layer) and layer(x).shape == (1, 2)
    with keras_hooks.replaced(layer, units=7), keras_hooks.replaced(layer, units=8):
        assert layer.units == 8
    assert layer.units == 2


def test_the_signature_of_call_of_the_instance_decides_what_is_passed():
    class Bare(keras.layers.Layer):
        def __init__(self):
            def call(inputs, mask=None, training=None):
                self.seen = mask is not None, training
                return inputs

            keras_hooks.replace(self, call=call)
            super().__init__()
            self.supports_masking = True

        def call(self, *args):
            raise AssertionError("not reached")

    bare = Bare()
    bare(layers.Masking()(np.ones((2, 3, 4), "float32")), training=True)
    assert bare.seen == (True, True)


def test_the_spec_of_a_layer_can_be_that_of_its_call():
    class Halved(layers.Layer):
        def call(self, x):
            return ops.cast(x[:, ::2], "float16")

        def compute_output_shape(self, shape):
            return shape

    spec = keras_hooks.spec_by_call(Halved(), keras.KerasTensor((None, 6)))
    assert spec.shape == (None, 3) and spec.dtype == "float16"


def test_the_flag_of_a_layer_is_not_that_of_the_layers_in_it():
    source, target = chain(), chain()
    target.layers[0].trainable = False
    source.trainable = False
    source.layers[0].trainable = source.layers[1].trainable = True
    keras_hooks.copy_trainable_flag(source, target)
    assert not target.trainable
    target.trainable = True
    keras_hooks.copy_trainable_flag(chain(), target)
    flags = [layer.trainable for layer in target.layers]
    assert target.trainable and flags == [True, True]
    target.layers[0].trainable = False
    keras_hooks.copy_trainable_flag(chain(), target)
    assert not target.layers[0].trainable


def test_a_variable_keeps_its_precision():
    class Layer(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(1,))
            self.v = self.add_weight(shape=(1,))
            keras_hooks.keep_precision(self.v)

        def call(self, x):
            self.seen = [keras.backend.standardize_dtype((v * 1).dtype) for v in (self.w, self.v)]
            return x

    layer = Layer(dtype="mixed_float16")
    layer(np.ones((1, 1)))
    assert layer.seen == ["float16", "float32"]


@pytest.mark.parametrize("kind", [layers.MultiHeadAttention, layers.GroupQueryAttention])
def test_attention_has_a_projection_to_its_outputs(kind):
    groups = {} if kind is layers.MultiHeadAttention else {"num_key_value_heads": 1}
    names = {"key_dim": 3} if kind is layers.MultiHeadAttention else {"head_dim": 3}
    heads = {"num_heads" if kind is layers.MultiHeadAttention else "num_query_heads": 2}
    attention = kind(**heads, **names, **groups)
    x = keras.Input((5, 8))
    attention(x, x)
    projection = keras_hooks.output_projection(attention)
    assert isinstance(projection, layers.EinsumDense) and projection.kernel.shape[-1] == 8


def test_an_optimizer_knows_the_places_of_its_variables():
    model = chain()
    optimizer = keras.optimizers.SGD()
    optimizer.build(model.trainable_variables)
    places = [keras_hooks.variable_index(optimizer, v) for v in model.trainable_variables]
    assert places == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", [keras.optimizers.SGD, keras.optimizers.Adam])
def test_update_step_of_the_instance_is_called_for_every_variable(kind):
    model = chain()
    optimizer = kind(0.5)
    seen = []

    def update_step(gradient, variable, learning_rate):
        seen.append(keras_hooks.variable_index(optimizer, variable))
        return plain(gradient, variable, learning_rate * 0)

    plain = keras_hooks.replace_update_step(optimizer, update_step)
    kg.backend.update_one_by_one(optimizer)
    before = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    optimizer.apply([ops.ones_like(v) for v in before], model.trainable_variables)
    assert seen == [0, 1, 2, 3]
    for variable, value in zip(model.trainable_variables, before):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)


def test_all_that_callbacks_and_wrappers_read_of_an_optimizer_is_there():
    optimizer = keras.optimizers.SGD(use_ema=True)
    optimizer.build(chain().trainable_variables)
    for name in vars(keras_hooks.StateOfInner):
        if not name.startswith("__"):
            assert hasattr(optimizer, name), name
    assert len(optimizer._model_variables_moving_average) == 4


def test_keras_saves_what_it_finds_by_dir(tmp_path):
    class Holder(keras.layers.Layer):
        def __init__(self, hidden, **kwargs):
            super().__init__(**kwargs)
            self.first, self.second = layers.Dense(2), layers.Dense(2)
            self.hides = hidden

        def build(self, shape):
            self.first.build(shape)
            self.second.build(shape)

        def call(self, x):
            return self.first(x) + self.second(x)

        def __dir__(self):
            names = super().__dir__()
            return keras_hooks.attributes_to_save(names, self.hides) if "hides" in names else names

    sizes = []
    for hidden in ("nothing", "second"):
        model = keras.Sequential([keras.Input((3,)), Holder(hidden)])
        path = tmp_path / f"{hidden}.weights.h5"
        model.save_weights(path)
        sizes.append(path.stat().st_size)
    assert sizes[1] < sizes[0]


def test_a_model_keeps_the_arguments_of_compile():
    model = chain()
    loss = keras.losses.MeanSquaredError()
    model.compile("sgd", loss, metrics=["mae"])
    arguments = keras_hooks.compile_arguments(model)
    assert arguments["loss"] is loss and arguments["metrics"] == ["mae"]
    assert {"optimizer", "loss", "metrics", "jit_compile"} <= set(arguments)


def test_recurrent_layers_run_by_their_inner_loop():
    layer = layers.SimpleRNN(2)
    assert list(inspect.signature(layer.inner_loop).parameters)[:3] == [
        "sequences",
        "initial_state",
        "mask",
    ]
    calls = []
    loop = layer.inner_loop

    def inner_loop(*args, **kwargs):
        calls.append(args)
        return loop(*args, **kwargs)

    with keras_hooks.replaced(layer, inner_loop=inner_loop):
        layer(np.ones((1, 4, 3), "float32"))
    assert len(calls) == 1


def test_recurrent_layers_keep_states_and_cells_a_dropout_mask():
    layer = layers.SimpleRNN(2, stateful=True, dropout=0.5)
    layer(np.ones((2, 4, 3), "float32"))
    assert [tuple(state.shape) for state in layer.states] == [(2, 2)]
    mask = layer.cell.get_dropout_mask(ops.ones((2, 3)))
    assert set(np.unique(ops.convert_to_numpy(mask))) <= {0.0, 2.0}
    assert layer.cell.get_dropout_mask(ops.ones((2, 3))) is mask


def test_layers_tell_quantization_and_adapters():
    model = chain()
    first, second = model.layers
    assert first.quantization_mode is None and not first.lora_enabled
    first.quantize("int8")
    second.enable_lora(1)
    assert first.quantization_mode == "int8" and second.lora_enabled
    assert second.lora_kernel_a.shape[-1] == 1


def test_a_saved_model_holds_the_optimizer_config_that_keras_reads(tmp_path):
    model = chain()
    model.compile(kg.Grapes("sgd", model=model), "mse")
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = json.loads(archive.read("config.json"))
    assert config["compile_config"]["optimizer"]["class_name"] == "Grapes"
