import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_grapes as kg
from keras_grapes import backend, grouping
from tests import reference

RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.normal(size=shape).astype("float32")


def gradients(layer, x, jit=None, **call):
    """Output, and gradients of a weighted sum of it to input and weights, of a layer or a copy."""
    x = tf.constant(x)
    layer(x, **call)

    def run():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, **call)
            weight = tf.reshape(tf.range(1, tf.size(y) + 1), tf.shape(y))
            loss = tf.reduce_sum(tf.cast(y, "float32") * tf.cast(weight, "float32"))
        return y, tape.gradient(loss, [x, *[v.value for v in layer.trainable_variables]])

    return (run if jit is None else tf.function(run, jit_compile=jit))()


def pair(layer, x, modulation=None, **call):
    """A plain layer and a wrapped one with the same weights."""
    plain = type(layer).from_config(layer.get_config())
    plain(x, **call)
    wrapped = kg.ErrorModulation(layer, modulation)
    wrapped(x, **call)
    wrapped.set_weights(plain.get_weights())
    return plain, wrapped


# Layer, input, axes of the kernel that enter a node, axis of the output with the nodes.
LINEAR_LAYERS = [
    (layers.Dense(4), (2, 3), (0,), -1),
    (layers.Conv1D(4, 2), (2, 5, 3), (0, 1), -1),
    (layers.Conv2D(4, 3), (2, 6, 6, 3), (0, 1, 2), -1),
    (layers.Conv2DTranspose(4, 3), (2, 4, 4, 3), (0, 1, 3), -1),
    (layers.TimeDistributed(layers.Dense(4)), (2, 5, 3), (0,), -1),
    (layers.EinsumDense("abc,cd->adb", output_shape=(4, 5)), (2, 5, 3), (0,), 1),
]


def kernel_of(layer):
    return getattr(layer, "layer", layer).kernel.numpy()


@pytest.mark.parametrize("jit", [None, False, True])
@pytest.mark.parametrize(
    "layer, shape, incoming, axis", LINEAR_LAYERS, ids=lambda v: type(v).__name__
)
def test_forward_is_identical_and_gradient_is_the_factor_times_the_plain(
    layer, shape, incoming, axis, jit
):
    x = floats(*shape)
    layer = type(layer).from_config(layer.get_config())
    plain, wrapped = pair(layer, x)
    y, _ = gradients(plain, x, jit)
    y_wrapped, (_, *weight_gradients) = gradients(wrapped, x, jit)
    np.testing.assert_array_equal(y_wrapped, y)
    factor = reference.factor(reference.importance(kernel_of(plain), incoming))
    shape = [1] * len(y.shape)
    shape[axis] = -1

    # The plain layer's gradients for an output error multiplied by hand.
    with tf.GradientTape() as tape:
        out = plain(x)
        weight = np.arange(1.0, np.size(out) + 1).reshape(out.shape) * factor.reshape(shape)
        loss = tf.reduce_sum(out * tf.cast(weight, "float32"))
    expected = tape.gradient(loss, [v.value for v in plain.trainable_variables])
    for a, b in zip(weight_gradients, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_gradient_by_hand():
    layer = kg.ErrorModulation(layers.Dense(2, use_bias=False))
    layer.build((None, 2))
    # Importances 3 and 4: factors 1.5 and 2.
    layer.set_weights([np.array([[1.0, -4.0], [2.0, 0.0]])])
    x = tf.constant([[1.0, 1.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(y * tf.constant([[1.0, 10.0]]))
    input_gradient, kernel_gradient = tape.gradient(loss, [x, layer.layer.kernel.value])
    np.testing.assert_array_equal(y, [[3.0, -4.0]])
    # The error at the output is (1.5, 20).
    np.testing.assert_array_equal(kernel_gradient, [[1.5, 20.0], [1.5, 20.0]])
    np.testing.assert_array_equal(input_gradient, [[1.5 - 80.0, 3.0]])


def test_channels_first():
    layer = layers.Conv2D(4, 3, data_format="channels_first", padding="same")
    layer.build((None, 3, 6, 6))
    group = grouping.layer_groups(layer)[0]
    factor = group.over_output(keras.ops.arange(4.0), (None, 4, 6, 6))
    assert tuple(factor.shape) == (1, 4, 1, 1)
    # Behind a global pooling the channels are the last axis.
    assert tuple(group.over_output(keras.ops.arange(4.0), (None, 4)).shape) == (4,)


def test_nodes_with_two_kernel_axes_lie_along_the_channels():
    x = floats(2, 6, 6, 3)
    plain, wrapped = pair(layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False), x)
    kernel = plain.kernel.numpy()
    factor = reference.factor(reference.importance(kernel, (0, 1)))
    _, (_, plain_gradient) = gradients(plain, x)
    _, (_, gradient) = gradients(wrapped, x)
    np.testing.assert_allclose(gradient, plain_gradient * factor, rtol=1e-4)


@pytest.mark.parametrize("return_sequences", [False, True])
def test_recurrent_layer_sums_both_kernels(return_sequences):
    x = floats(2, 5, 3)
    layer = layers.SimpleRNN(4, return_sequences=return_sequences)
    plain, wrapped = pair(layer, x)
    cell = plain.cell
    both = np.abs(cell.kernel.numpy()).sum(0) + np.abs(cell.recurrent_kernel.numpy()).sum(0)
    factor = reference.factor(both)
    with tf.GradientTape() as tape:
        y = plain(x)
        weight = np.arange(1.0, np.size(y) + 1).reshape(y.shape) * factor
        loss = tf.reduce_sum(y * tf.cast(weight, "float32"))
    expected = tape.gradient(loss, [v.value for v in plain.trainable_variables])
    y_wrapped, (_, *given) = gradients(wrapped, x)
    np.testing.assert_array_equal(y_wrapped, y)
    for a, b in zip(given, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_states_of_a_recurrent_layer_are_its_nodes_too():
    x = floats(2, 5, 3)
    wrapped = kg.ErrorModulation(layers.SimpleRNN(4, return_state=True))
    y, state = wrapped(x)
    np.testing.assert_array_equal(y, state)
    results = []
    for choose in (0, 1):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(wrapped(x)[choose])
        results.append(tape.gradient(loss, wrapped.layer.cell.kernel.value))
    np.testing.assert_array_equal(*results)


def test_factor_is_computed_once_and_not_in_the_loop_over_time():
    wrapped = kg.ErrorModulation(layers.SimpleRNN(4, return_sequences=True))
    x = tf.constant(floats(2, 50, 3))
    wrapped(x)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(wrapped(x))
        return tape.gradient(loss, [v.value for v in wrapped.trainable_variables])

    graph = step.get_concrete_function().graph.as_graph_def()
    in_loops = [node.op for function in graph.library.function for node in function.node_def]
    assert "Abs" not in in_loops
    # One for each of the two kernels.
    assert [node.op for node in graph.node].count("Abs") == 2


def test_attention_is_modulated_at_its_output_nodes():
    query, value = floats(2, 5, 6), floats(2, 7, 6)
    layer = layers.MultiHeadAttention(2, 3)
    plain, wrapped = pair(layer, query, value=value, use_causal_mask=False)
    kernel = plain.output_dense.kernel.numpy()
    factor = reference.factor(reference.importance(kernel, (0, 1)))
    y, scores = wrapped(query, value, return_attention_scores=True)
    expected, expected_scores = plain(query, value, return_attention_scores=True)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(scores, expected_scores)
    _, (_, *plain_gradients) = gradients(plain, query, value=value)
    _, (_, *given) = gradients(wrapped, query, value=value)
    # The output projection's bias has the error itself for its gradient.
    np.testing.assert_allclose(given[-1], plain_gradients[-1] * factor, rtol=1e-4)


def test_masks_and_training_reach_the_wrapped_layer():
    x = np.array([[1, 2, 0, 0], [3, 1, 2, 0]])
    inputs = keras.Input((4,), dtype="int32")
    embedded = layers.Embedding(5, 3, mask_zero=True)(inputs)
    rnn = layers.SimpleRNN(4, dropout=0.5)
    plain = keras.Model(inputs, rnn(embedded))
    model = keras.Model(
        inputs, kg.ErrorModulation(layers.SimpleRNN(4, dropout=0.5, seed=1))(embedded)
    )
    model.set_weights(plain.get_weights())
    np.testing.assert_array_equal(model(x), plain(x))
    assert not np.array_equal(model(x, training=True), model(x, training=True))
    wrapper = kg.ErrorModulation(layers.TimeDistributed(layers.Dense(2)))
    masked = layers.Masking()(np.zeros((2, 3, 1), "float32"))
    assert wrapper(masked)._keras_mask.shape == (2, 3)


def test_block_modulates_after_its_normalization_and_nonlinearity():
    x = floats(4, 6, 6, 2)
    block = keras.Sequential(
        [layers.Conv2D(3, 3), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D()]
    )
    wrapped = kg.ErrorModulation(block)
    wrapped(x)
    assert len(wrapped.weights) == len(block.weights)
    assert backend.variable_key(block.layers[0].kernel) in grouping.error_modulated()


@pytest.mark.parametrize("training", [False, True])
def test_kernel_gradients_do_not_depend_on_the_place_between_elementwise_layers(training):
    """`m` commutes with per-channel batch normalization, ReLU and pooling."""
    x = floats(4, 8, 8, 2)

    def block(place):
        conv = layers.Conv2D(3, 3, use_bias=False)
        rest = [layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D()]
        if place == "before":
            return keras.Sequential([kg.ErrorModulation(conv), *rest])
        return kg.ErrorModulation(keras.Sequential([conv, *rest]))

    results = []
    for place in ("before", "after"):
        model = block(place)
        model(x)
        keras.utils.set_random_seed(1)
        model.set_weights([RNG.uniform(0.5, 1, w.shape) for w in model.get_weights()])
        results.append((model, model.get_weights()))
    results[1][0].set_weights(results[0][1])
    kernels = []
    for model, _ in results:
        with tf.GradientTape() as tape:
            y = model(x, training=training)
            loss = tf.reduce_sum(y * tf.reshape(tf.range(float(np.size(y))), y.shape))
        (variable,) = [v for v in model.trainable_variables if v.name == "kernel"]
        kernels.append(tape.gradient(loss, variable.value))
    # In training the statistics of batch normalization mix nothing between channels.
    scale = np.abs(kernels[0]).max()
    np.testing.assert_allclose(kernels[0] / scale, kernels[1] / scale, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "float64"])
def test_gradient_keeps_its_precision_and_the_factor_has_at_least_float32(policy):
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential(
        [keras.Input((3,)), kg.ErrorModulation(layers.Dense(4)), layers.Dense(2)]
    )
    wrapper = model.layers[0]
    seen = []

    class Watch(kg.Modulation):
        def __call__(self, kernels, axes):
            factor = super().__call__(kernels, axes)
            seen.append((kernels[0].dtype, factor.dtype))
            return factor

    wrapper.modulation = Watch()
    x = tf.constant(floats(2, 3), keras.config.dtype_policy().compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    assert y.dtype == keras.config.dtype_policy().compute_dtype
    gradient = tape.gradient(y, x)
    assert gradient.dtype == x.dtype
    kernel_dtype, factor_dtype = seen[-1]
    assert kernel_dtype == keras.config.dtype_policy().variable_dtype
    assert factor_dtype == ("float64" if policy == "float64" else "float32")


def test_controls():
    x = floats(2, 3)
    for modulation in (
        kg.Modulation((0, 2)),
        kg.Modulation(granularity="layer"),
        kg.Modulation(unit_mean=True),
    ):
        plain, wrapped = pair(layers.Dense(4), x, modulation)
        factor = reference.factor(reference.importance(plain.kernel, 0), *modulation.bounds)
        if modulation.granularity == "layer":
            factor = np.full_like(factor, factor.mean())
        if modulation.unit_mean:
            factor = factor / factor.mean()
        _, (_, expected, _) = gradients(plain, x)
        _, (_, given, _) = gradients(wrapped, x)
        np.testing.assert_allclose(given, expected * factor, rtol=1e-4)


def test_zero_weights_pass_the_error_unchanged():
    x = floats(2, 3)
    plain, wrapped = pair(layers.Dense(4, kernel_initializer="zeros"), x)
    np.testing.assert_array_equal(gradients(plain, x)[1][1], gradients(wrapped, x)[1][1])


def test_consumer_that_gathers_gives_a_dense_gradient():
    wrapped = kg.ErrorModulation(layers.Dense(4))
    x = tf.constant(floats(3, 2))
    wrapped(x)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.gather(wrapped(x), [0, 2]))
    assert tape.gradient(loss, wrapped.layer.kernel.value).shape == (2, 4)


def test_name_weights_and_trainable_are_the_wrapped_layers():
    layer = layers.Dense(4, name="hidden", trainable=False)
    wrapped = kg.ErrorModulation(layer)
    assert (wrapped.name, wrapped.trainable) == ("hidden", False)
    wrapped(floats(2, 3))
    assert wrapped.trainable_weights == []
    assert len(wrapped.weights) == 2
    wrapped.trainable = True
    assert len(wrapped.trainable_weights) == 2
    assert wrapped.compute_output_shape((None, 3)) == (None, 4)


def test_config_round_trip():
    wrapped = kg.ErrorModulation(layers.Dense(4, name="d"), kg.Modulation((0, 2)), name="w")
    config = keras.saving.serialize_keras_object(wrapped)
    assert config["registered_name"] == "keras_grapes>ErrorModulation"
    restored = keras.saving.deserialize_keras_object(config)
    assert restored.get_config() == wrapped.get_config()
    assert restored.modulation == wrapped.modulation
    once = wrapped.get_config()
    kg.ErrorModulation.from_config(once)
    assert "layer" in once, "from_config must not change the dict it is given"


def test_save_and_load_of_a_subclassed_model(tmp_path):
    @keras.saving.register_keras_serializable(package="test")
    class Net(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.hidden = kg.ErrorModulation(layers.Dense(5, "relu"))
            self.attend = kg.ErrorModulation(layers.MultiHeadAttention(1, 2))
            self.out = layers.Dense(3)

        def call(self, x):
            x = self.hidden(x)
            return self.out(self.attend(x, value=x))

    model = Net()
    x = floats(4, 2, 6)
    y = model(x)
    model.compile("adam", "mse")
    model.fit(x, np.zeros((4, 2, 3)), verbose=0)
    y = model(x)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(x), y)


class Composite(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a = layers.Dense(4)
        self.b = layers.Dense(4)

    def build(self, shape):
        self.a.build(shape)
        self.b.build((*shape[:-1], 4))

    def call(self, x):
        return self.b(self.a(x))


@pytest.mark.parametrize(
    "layer, reason",
    [
        (lambda: layers.Flatten(), "no kernel"),
        (lambda: layers.Activation("relu"), "no kernel"),
        (lambda: layers.BatchNormalization(), "no kernel"),
        (lambda: layers.Embedding(3, 4), "no kernel"),
        (lambda: layers.Add(), "no kernel"),
        (lambda: layers.LSTM(4), "not the channels of its output"),
        (lambda: layers.GRU(4), "not the channels of its output"),
        (lambda: layers.RNN(layers.LSTMCell(4)), "not the channels of its output"),
        (lambda: layers.ConvLSTM2D(4, 2), "not the channels of its output"),
        (lambda: layers.Bidirectional(layers.SimpleRNN(4)), "not the channels of its output"),
        (lambda: layers.SimpleRNNCell(4), r"RNN\(cell\)"),
    ],
)
def test_layers_whose_class_cannot_be_wrapped_are_refused_at_once(layer, reason):
    with pytest.raises(ValueError, match=f"cannot wrap layer.*{reason}"):
        kg.ErrorModulation(layer())


@pytest.mark.parametrize(
    "layer, reason",
    [
        (lambda: Composite(), "several layers with kernels"),
        (lambda: keras.Sequential([layers.Dense(3), layers.Dense(3)]), "2 layers with kernels"),
        (lambda: keras.Sequential([layers.ReLU()]), "0 layers with kernels"),
        (lambda: keras.Sequential([layers.Dense(4), layers.Permute((2, 1))]), "moves the nodes"),
        (lambda: keras.Sequential([layers.Dense(4), layers.ZeroPadding1D(1)]), None),
        (lambda: keras.Sequential([layers.Conv1D(4, 1), layers.Flatten()]), "not axis -1 of its"),
    ],
)
def test_other_layers_are_refused_when_they_are_built(layer, reason):
    x = floats(2, 5, 3)
    if reason is None:
        kg.ErrorModulation(layer())(x)
        return
    with pytest.raises(ValueError, match=f"cannot wrap layer.*{reason}"):
        kg.ErrorModulation(layer())(x)


def test_unit_axis_that_is_not_the_channel_axis_is_refused():
    class Transposing(layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], 4), name="kernel")

        def call(self, x):
            return keras.ops.transpose(keras.ops.matmul(x, self.kernel))

    with pytest.raises(ValueError, match="are not axis -1 of its output"):
        kg.ErrorModulation(Transposing())(floats(2, 3))


@pytest.mark.parametrize("layer", [None, "dense", layers.Dense])
def test_other_things_than_layers_are_refused(layer):
    with pytest.raises(TypeError, match="`layer` must be"):
        kg.ErrorModulation(layer)
    with pytest.raises(TypeError, match="`modulation`"):
        kg.ErrorModulation(layers.Dense(3), modulation="grapes")
