import copy
import pickle
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_grapes as kg
from keras_grapes import backend
from keras_grapes.groups import error_modulated, layer_groups
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


def pair(layer, x, modulation=kg.Modulation(), **call):
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
    group = layer_groups(layer)[0]
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
    assert backend.variable_key(block.layers[0].kernel) in error_modulated()


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
        (
            lambda: keras.Sequential([layers.Conv1D(4, 1), layers.Flatten()]),
            "not axis -1 of an output",
        ),
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

    with pytest.raises(
        ValueError, match=r"cannot wrap layer.*are not axis -1 of an output of shape"
    ):
        kg.ErrorModulation(Transposing())(floats(2, 3))


@pytest.mark.parametrize("layer", [None, "dense", layers.Dense])
def test_other_things_than_layers_are_refused(layer):
    with pytest.raises(TypeError, match="`layer` must be"):
        kg.ErrorModulation(layer)
    with pytest.raises(TypeError, match="`modulation`"):
        kg.ErrorModulation(layers.Dense(3), modulation="grapes")


def test_masks_pass_through_in_a_functional_model():
    """Behind a wrapper that loses the mask a pooling layer would count the padding."""
    tokens = keras.Input((4,), dtype="int32")
    embedded = layers.Embedding(5, 3, mask_zero=True)(tokens)
    time = layers.TimeDistributed(layers.Dense(2), name="time")
    plain = keras.Model(tokens, layers.GlobalAveragePooling1D()(time(embedded)))
    wrapped = keras.Model(
        tokens, layers.GlobalAveragePooling1D()(kg.ErrorModulation(time)(embedded))
    )
    x = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    np.testing.assert_array_equal(wrapped(x), plain(x))
    # The second sample has one token: its mean is that token's.
    alone = time(plain.layers[1](np.array([[3]])))[0, 0]
    np.testing.assert_allclose(wrapped(x)[1], alone, rtol=1e-6)


def by_hand():
    """A wrapped layer of kernel (1, 2): factors 1 and 2, gradient by the input 1 + 2 or 1 + 4."""
    wrapped = kg.ErrorModulation(layers.Dense(2, use_bias=False))
    wrapped.build((None, 1))
    wrapped.set_weights([np.array([[1.0, 2.0]])])
    return wrapped


def input_gradient(model, **kwargs):
    x = tf.constant([[1.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x, **kwargs)
    return float(tape.gradient(y, x)[0, 0])


@pytest.mark.parametrize("how", ["eager", "graph", "jit"])
@pytest.mark.parametrize("training, expected", [(None, 5.0), (True, 5.0), (False, 3.0)])
def test_error_is_modulated_in_training_alone(training, expected, how):
    layer = by_hand()
    model = keras.Sequential([keras.Input((1,)), layer])
    i = keras.Input((1,))
    nested = keras.Model(i, model(i))
    for one in (layer, model, nested):

        def gradient(one=one):
            x = tf.constant([[1.0]])
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = one(x, training=training)
            return tape.gradient(y, x)

        if how != "eager":
            gradient = tf.function(gradient, jit_compile=how == "jit")
        assert float(gradient()[0, 0]) == expected


def test_training_may_be_a_tensor():
    layer = by_hand()
    assert input_gradient(layer, training=tf.constant(True)) == 5.0
    assert input_gradient(layer, training=tf.constant(False)) == 3.0


def test_a_default_of_training_is_the_wrapped_layers_alone():
    """`SimpleRNN.call` has `training=False`; a bare call of the wrapper is modulated anyway."""
    layer = kg.ErrorModulation(layers.SimpleRNN(3, dropout=0.5))
    x = tf.ones((2, 4, 3))
    layer(x)
    gradients = []
    for training in (None, False):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=training))
        gradients.append(tape.gradient(loss, layer.layer.cell.kernel.value))
    both = sum(
        np.abs(k).sum(0) for k in (layer.layer.cell.kernel, layer.layer.cell.recurrent_kernel)
    )
    # Without dropout both: of one step the gradient would be the factor; of several at least it.
    assert not np.allclose(*gradients)
    assert reference.factor(both).max() == 2.0


def test_plain_gradients():
    layer = by_hand()
    with kg.plain_gradients():
        assert input_gradient(layer, training=True) == 3.0
    assert input_gradient(layer, training=True) == 5.0
    x = tf.constant([[1.0]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = layer(x)
    with kg.plain_gradients():
        assert float(tape.gradient(y, x)[0, 0]) == 3.0, "also around the gradient alone"
    assert float(tape.gradient(y, x)[0, 0]) == 5.0


def test_gradient_penalty_is_that_of_the_plain_model():
    """f(x) = (x w1)^2 w2: |df/dx| and its derivative by w1, by hand, within a training step."""
    inner = kg.ErrorModulation(layers.Dense(2, use_bias=False, activation=keras.ops.square))
    model = keras.Sequential([keras.Input((1,)), inner, layers.Dense(1, use_bias=False)])
    w1, w2 = np.array([[1.0, 3.0]]), np.array([[1.0], [2.0]])
    model.set_weights([w1, w2])
    x = tf.constant([[2.0]])

    @tf.function
    def penalty():
        with tf.GradientTape() as outer:
            with kg.plain_gradients():
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    y = model(x, training=True)
                slope = tape.gradient(y, x)
            value = tf.reduce_sum(slope**2)
        return value, outer.gradient(value, inner.layer.kernel.value)

    value, gradient = penalty()
    slope = (2 * 2.0 * w1**2 @ w2).item()  # d/dx of sum(w2 (w1 x)^2) at x = 2
    assert float(value) == pytest.approx(slope**2)
    np.testing.assert_allclose(gradient, 2 * slope * 2 * 2.0 * 2 * w1 * w2.T, rtol=1e-5)


def test_attributes_and_methods_are_those_of_the_wrapped_layer():
    rnn = kg.ErrorModulation(layers.SimpleRNN(3, stateful=True))
    x = floats(2, 4, 3)
    first = rnn(x)
    assert (rnn.units, rnn.stateful, hasattr(rnn, "reset_state")) == (3, True, True)
    assert not np.array_equal(rnn(x), first)
    rnn.reset_state()
    np.testing.assert_array_equal(rnn(x), first)
    assert rnn.states[0] is rnn.layer.states[0]

    dense = kg.ErrorModulation(layers.Dense(3))
    dense(floats(2, 4))
    assert dense.kernel is dense.layer.kernel
    dense.activation = keras.activations.relu
    assert dense.layer.activation is keras.activations.relu and "activation" not in vars(dense)
    dense.enable_lora(2)
    assert len(dense.trainable_variables) == 3
    dense.note = "mine"
    assert not hasattr(dense.layer, "note")
    for name in ("nothing", "_nothing"):
        assert not hasattr(dense, name)
    with pytest.raises(AttributeError, match="Neither 'ErrorModulation' nor the Dense"):
        dense.nothing  # noqa: B018


def test_quantize_reaches_the_wrapped_layer():
    dense = kg.ErrorModulation(layers.Dense(4))
    dense(floats(2, 4))
    dense.quantize("int8")
    assert dense.layer.quantization_mode == "int8"
    assert dense(floats(2, 4)).shape == (2, 4)


def test_copies_by_pickle(tmp_path):
    model = keras.Sequential([keras.Input((3,)), kg.ErrorModulation(layers.Dense(4, "relu"))])
    x = floats(2, 3)
    for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(copied(x), model(x))
        assert copied.layers[0].units == 4


def test_a_call_of_a_subclass_is_honoured():
    class Doubled(kg.ErrorModulation):
        def call(self, x):
            return 2.0 * super().call(x)

    layer = Doubled(layers.Dense(2, use_bias=False))
    layer.build((None, 1))
    layer.set_weights([np.array([[1.0, 2.0]])])
    np.testing.assert_array_equal(layer(np.ones((1, 1))), [[2.0, 4.0]])
    assert input_gradient(layer) == 10.0


class Several(layers.Layer):
    """Gives its nodes twice, and something else."""

    def __init__(self, form, **kwargs):
        super().__init__(**kwargs)
        self.form = form

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 2), name="kernel")

    def call(self, x):
        y = keras.ops.matmul(x, self.kernel)
        outputs = {"a": y, "b": [3.0 * y, keras.ops.sum(y, axis=-1, keepdims=True)], "c": y > 0}
        return outputs if self.form is dict else (y, *outputs["b"], outputs["c"])


@pytest.mark.parametrize("form", [dict, tuple])
def test_every_output_that_has_the_nodes_is_modulated(form):
    layer = kg.ErrorModulation(Several(form))
    layer.build((None, 1))
    layer.set_weights([np.array([[1.0, 2.0]])])
    x = tf.constant([[1.0]])
    expected = [1.0 + 2 * 2.0, 3 * (1.0 + 2 * 2.0), 1.0 + 2.0]  # the sum has one value, no nodes
    for place, value in enumerate(expected):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = keras.tree.flatten(layer(x))[place]
        assert float(tape.gradient(y, x)[0, 0]) == value
    structure = layer(x)
    assert isinstance(structure, form)


def test_scores_of_attention_with_as_many_places_as_nodes_are_not_modulated():
    x = floats(2, 6, 6)
    plain, wrapped = pair(layers.MultiHeadAttention(1, 2), x, value=x)
    for one, other in ((plain, wrapped),):
        gradients_ = []
        for layer in (one, other):
            t = tf.constant(x)
            with tf.GradientTape() as tape:
                tape.watch(t)
                _, scores = layer(t, t, return_attention_scores=True)
                loss = tf.reduce_sum(scores * tf.range(6.0))
            gradients_.append(tape.gradient(loss, t))
        np.testing.assert_array_equal(*gradients_)


def test_outputs_without_the_nodes_are_refused():
    class Sums(Several):
        def call(self, x):
            return {"only": keras.ops.sum(super().call(x)[0], axis=-1, keepdims=True)}

    with pytest.raises(ValueError, match=r"cannot wrap layer 'sums'.*are not axis -1"):
        kg.ErrorModulation(Sums(tuple, name="sums"))(floats(2, 3))


def test_attention_is_built_by_its_shapes():
    layer = kg.ErrorModulation(layers.MultiHeadAttention(2, 3))
    layer.build(query_shape=(2, 5, 6), value_shape=(2, 4, 6))
    assert len(layer.weights) == 8 and layer.built


class WithoutBuild(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4)

    def call(self, x):
        return keras.ops.relu(self.dense(x))


def test_layers_that_are_built_by_their_call():
    x = floats(2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        plain, wrapped = pair(WithoutBuild(), x)
    factor = reference.dense_factor(plain.dense.kernel)
    _, (_, *expected) = gradients(plain, x)
    _, (_, *given) = gradients(wrapped, x)
    np.testing.assert_allclose(given[0], expected[0] * factor, rtol=1e-4)


class Holds(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = kg.ErrorModulation(layers.Dense(2, name="inner"))

    def call(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: kg.ErrorModulation(layers.Dense(2, name="inner")),
        lambda: keras.Sequential(
            [kg.ErrorModulation(layers.Dense(2, name="inner")), layers.ReLU()]
        ),
        lambda: layers.TimeDistributed(kg.ErrorModulation(layers.Dense(2, name="inner"))),
        Holds,
    ],
)
def test_what_holds_a_wrapper_is_not_wrapped_again(layer):
    with pytest.raises(ValueError, match="'inner' in it is in an `ErrorModulation` already"):
        kg.ErrorModulation(layer())(floats(2, 3, 3))


def test_objects_of_keras_2_are_named():
    other = type("Dense", (), {"__module__": "tf_keras.src.layers"})()
    with pytest.raises(TypeError, match="object of Keras 2"):
        kg.ErrorModulation(other)
    with pytest.raises(TypeError, match="object of Keras 2"):
        kg.propagate(other)
