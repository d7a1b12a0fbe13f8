"""A copy is the model: classes, ties, flags, inputs and what is at hand."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras_grapes as kg

pytestmark = pytest.mark.filterwarnings("ignore:`propagate`")
COPIES = pytest.mark.parametrize("copy_of", [kg.propagate, kg.strip])
X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


def variable_count(model):
    return len({id(variable) for variable in model.variables})


def unwrapped(layer):
    return layer.layer if isinstance(layer, kg.ErrorModulation) else layer


def assert_is_the_model(copy, model, x=X):
    np.testing.assert_array_equal(copy(x), model(x))
    assert variable_count(copy) == variable_count(model)
    assert [type(unwrapped(layer)) for layer in copy.layers] == [
        type(unwrapped(layer)) for layer in model.layers
    ]
    assert len(copy.trainable_variables) == len(model.trainable_variables)


def around(*inner):
    """A Functional model with a hidden layer ahead of `inner` and a head behind."""
    i = keras.Input((3,))
    x = layers.Dense(3, name="first")(i)
    for layer in inner:
        x = layer(x)
    return keras.Model(i, layers.Dense(2, name="head")(x))


class Residual(keras.Sequential):
    def call(self, x, training=None, mask=None):
        return x + super().call(x, training=training, mask=mask)


class Scaled(keras.Model):
    """Functional, with a constructor, a weight and a `call` of its own."""

    def __init__(self, scale=3.0, name="scaled"):
        i = keras.Input((3,))
        super().__init__(i, layers.Dense(3)(i), name=name)
        self.scale = scale
        self.gain = self.add_weight(shape=(), initializer="ones", name="gain")

    def call(self, x, training=None, mask=None):
        return self.scale * self.gain * super().call(x, training=training, mask=mask)


class Backbone(keras.Model):
    """Functional, with a constructor of its own and Keras's `call`."""

    def __init__(self, units, **kwargs):
        i = keras.Input((3,))
        super().__init__(i, layers.Dense(3)(layers.Dense(units)(i)), **kwargs)
        self.units = units

    def get_config(self):
        return {"units": self.units, "name": self.name}


class Trained(keras.Model):
    """Functional, with a `train_step` of its own and nothing else."""

    def train_step(self, data):
        return {"mine": 7.0}


NESTED = {
    "sequential": lambda: Residual([layers.Dense(3)]),
    "functional": lambda: Scaled(2.0),
    "backbone": lambda: Backbone(5),
    "two levels": lambda: keras.Sequential([keras.Input((3,)), Residual([layers.Dense(3)])]),
}


@COPIES
@pytest.mark.parametrize("kind", NESTED)
def test_nested_models_keep_their_class(kind, copy_of):
    model = around(NESTED[kind]())
    assert_is_the_model(copy_of(model), model)


def test_nested_models_that_are_not_opened_are_named():
    with pytest.warns(UserWarning, match=r"'back' of class Backbone.*keras\.Model\(layer\.input"):
        copy = kg.propagate(around(Backbone(5, name="back")))
    assert not any(isinstance(s, kg.ErrorModulation) for s in copy.get_layer("back").layers)
    with pytest.warns(UserWarning, match=r"'scaled' of class Scaled") as caught:
        kg.propagate(around(Scaled()))
    assert "layer.input" not in str(caught[0].message), "its call would be lost"


@COPIES
def test_root_models_that_cannot_be_copied_name_the_ways_out(copy_of):
    model = Backbone(5)
    with pytest.raises(ValueError, match=r"Backbone.*keras\.Model\(model\.input, .*Grapes"):
        copy_of(model)
    graph = keras.Model(model.input, model.output)
    assert_is_the_model(copy_of(graph), graph)
    for own_call in (Scaled(), Residual([keras.Input((3,)), layers.Dense(3)])):
        with pytest.raises(ValueError, match=r"ErrorModulation.*Grapes"):
            copy_of(own_call)


@COPIES
def test_a_class_with_a_train_step_of_its_own_is_kept(copy_of):
    i = keras.Input((3,))
    model = Trained(i, layers.Dense(2)(layers.Dense(3)(i)))
    model.compile("sgd", "mse")
    copy = copy_of(model)
    assert type(copy) is Trained
    assert copy.fit(X, X[:, :2], verbose=0).history["mine"] == [7.0]


@COPIES
def test_what_was_frozen_can_be_thawed(copy_of):
    i = keras.Input((3,))
    base = keras.Model(i, layers.Dense(3)(layers.Dense(3)(i)), name="base")
    base.trainable = False
    model = around(base)
    copy = copy_of(model)
    assert len(copy.trainable_variables) == 4
    copy.get_layer("base").trainable = True
    assert len(copy.trainable_variables) == 8


@COPIES
def test_parts_of_a_layer_that_were_frozen_can_be_thawed(copy_of):
    i = keras.Input((5, 4))
    attention = layers.MultiHeadAttention(2, 2, name="attention")
    model = keras.Model(i, layers.Dense(1)(attention(i, i)))
    attention.query_dense.trainable = False
    copy = copy_of(model)
    assert len(copy.trainable_variables) == 8
    unwrapped(copy.get_layer("attention")).query_dense.trainable = True
    assert len(copy.trainable_variables) == 10


class Tied(layers.Layer):
    """Multiplies by the transposed kernel of another layer."""

    def __init__(self, source, **kwargs):
        super().__init__(**kwargs)
        self.source = source

    def build(self, input_shape):
        self.bias = self.add_weight(shape=(self.source.kernel.shape[0],), name="bias")

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.source.kernel)) + self.bias

    def get_config(self):
        source = keras.saving.serialize_keras_object(self.source)
        return {**super().get_config(), "source": source}

    @classmethod
    def from_config(cls, config):
        source = keras.saving.deserialize_keras_object(config["source"])
        return cls(**{**config, "source": source})


class Encoder(layers.Layer):
    """Makes the layer that others hold by itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(5, name="dense")

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x):
        return self.dense(x)


class Forgetful(Tied):
    def get_config(self):
        return layers.Layer.get_config(self)


@COPIES
@pytest.mark.parametrize("decoder_first", [False, True])
def test_tied_layers_stay_tied(copy_of, decoder_first):
    i = keras.Input((3,))
    encoder = layers.Dense(5, name="encoder")
    encoder.build((None, 3))
    decoder = Tied(encoder, name="decoder")
    if decoder_first:
        model = keras.Model(i, encoder(decoder(layers.Dense(5)(i))))
    else:
        model = keras.Model(i, layers.Dense(2)(decoder(encoder(i))))
    copy = copy_of(model)
    assert_is_the_model(copy, model)
    assert copy.get_layer("decoder").source is unwrapped(copy.get_layer("encoder"))
    assert_is_the_model(kg.strip(copy), model)


@COPIES
def test_a_layer_that_two_others_hold_stays_one(copy_of):
    encoder = Encoder()
    i = keras.Input((3,))
    model = keras.Model(i, layers.Dense(2)(Tied(encoder.dense)(encoder(i))))
    assert_is_the_model(copy_of(model), model)
    shared = layers.Dense(3)
    shared.build((None, 5))
    i = keras.Input((3,))
    model = keras.Model(i, layers.Dense(2)(Tied(shared)(i) + Tied(shared)(i)))
    assert variable_count(model) == 6
    assert_is_the_model(copy_of(model), model)


@COPIES
def test_a_tie_that_cannot_be_copied_is_refused(copy_of):
    i = keras.Input((3,))
    encoder = layers.Dense(5)
    model = keras.Model(i, layers.Dense(2)(Forgetful(encoder, name="decoder")(encoder(i))))
    with pytest.raises(ValueError, match=r"(?s)'decoder' of class Forgetful.*Grapes"):
        copy_of(model)
    # Tied later, which no config tells.
    borrower = Borrower(name="borrower")
    borrower.lender = layers.Dense(3)
    model = around(borrower.lender, borrower)
    with pytest.raises(ValueError, match=r"'borrower' of class Borrower .*Grapes"):
        copy_of(model)


class Borrower(layers.Layer):
    lender = None

    def call(self, x):
        return x if self.lender is None else ops.matmul(x, self.lender.kernel)


class Whole(layers.Layer):
    """Takes sparse, ragged and missing inputs, and tells which it got."""

    def call(self, x, other=None):
        return x if other is None else x + other


@COPIES
def test_flags_of_inputs_are_kept(copy_of):
    sparse = keras.Sequential([keras.Input((3,), sparse=True), layers.Dense(2), layers.Dense(1)])
    i = keras.Input((3,), sparse=True)
    functional = keras.Model(i, layers.Dense(1)(layers.Dense(2)(i)))
    for model in (sparse, functional):
        copy = copy_of(model)
        assert copy.inputs[0].sparse
        np.testing.assert_array_equal(copy(tf.sparse.from_dense(X)), model(tf.sparse.from_dense(X)))
    first, second = keras.Input((3,)), keras.Input((3,), optional=True)
    model = keras.Model([first, second], layers.Dense(1)(layers.Dense(2)(Whole()(first, second))))
    copy = copy_of(model)
    np.testing.assert_array_equal(copy([X, None]), model([X, None]))
    if hasattr(keras.Input((None,)), "ragged"):
        i = keras.Input((None,), ragged=True, dtype="int32")
        assert copy_of(keras.Model(i, i * 2)).inputs[0].ragged


def my_loss(y_true, y_pred):
    return ops.mean((y_true - y_pred) ** 2)


class MyLoss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return my_loss(y_true, y_pred)


class MyOptimizer(keras.optimizers.SGD):
    pass


class MySchedule(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.5

    def get_config(self):
        return {}


class MyMetric(keras.metrics.Mean):
    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_pred)


@COPIES
@pytest.mark.parametrize("loss", [my_loss, lambda a, b: ops.mean(a - b), MyLoss()])
def test_nothing_that_a_model_is_compiled_with_has_to_be_registered(copy_of, loss):
    model = around()
    metric = MyMetric(name="mine")
    model.compile(MyOptimizer(MySchedule()), loss, metrics=[metric, my_loss])
    model.fit(X, X[:, :2], verbose=0)
    copy = copy_of(model)
    assert copy.loss is loss
    assert type(copy.optimizer) is MyOptimizer and copy.optimizer is not model.optimizer
    assert float(copy.optimizer.learning_rate) == 0.5 and int(copy.optimizer.iterations) == 0
    found = copy.evaluate(X, X[:, :2], verbose=0, return_dict=True)
    assert found == pytest.approx(model.evaluate(X, X[:, :2], verbose=0, return_dict=True))
    assert "mine" in found and not any(m is metric for m in copy.metrics)


def test_an_inner_optimizer_need_not_be_registered():
    model = around()
    model.compile(kg.Grapes(MyOptimizer(0.25), model=model), "mse")
    copy = kg.strip(model)
    assert type(copy.optimizer.inner_optimizer) is MyOptimizer
    assert float(copy.optimizer.learning_rate) == 0.25


class Ones(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return ops.ones(shape, dtype)

    def get_config(self):
        return {}


class Twice:
    def __call__(self, x):
        return 2.0 * x


def relu(x):
    """With the name of one of Keras's."""
    return 5.0 * x


@COPIES
def test_functions_and_classes_at_hand_are_taken(copy_of):
    factor = 3.0
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, activation=lambda x: factor * x, kernel_initializer=Ones()),
            layers.Lambda(lambda x: ops.sin(x) * factor),
            layers.Lambda(relu),
            layers.Lambda(ops.cos),
            layers.Lambda(functools.partial(ops.clip, x_min=-0.5, x_max=0.5)),
            layers.Activation(Twice()),
            layers.Dense(4, activation=relu),
            layers.Dense(3, activation=tf.nn.gelu),
            layers.Dense(2),
        ]
    )
    copy = copy_of(model)
    assert_is_the_model(copy, model)
    assert relu.__name__ == "relu" and tf.nn.gelu.__name__ == "gelu", "names are given back"


@COPIES
def test_a_function_as_regularizer_is_taken(copy_of):
    try:
        keras.Variable(1.0).regularizer = ops.sum
    except ValueError:
        pytest.skip("this Keras takes no function as a regularizer")
    hidden = layers.Dense(4, kernel_regularizer=lambda w: 3.0 * ops.sum(w))
    model = keras.Sequential([keras.Input((3,)), hidden, layers.Dense(2)])
    copy = copy_of(model)
    assert_is_the_model(copy, model)
    np.testing.assert_allclose(copy.losses, [3.0 * np.sum(hidden.kernel)], rtol=1e-6)


@COPIES
def test_values_that_a_layer_was_given_later_are_copied(copy_of):
    class Shift(layers.Layer):
        def __init__(self, by=0.0, **kwargs):
            super().__init__(**kwargs)
            self.by = by

        def call(self, x):
            return x + self.by

    shift = Shift(1.0)
    model = around(shift)
    shift.by = 2.5
    assert_is_the_model(copy_of(model), model)


class Block(layers.Layer):
    """Without `build`: its layers are built by their first call."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units)

    def call(self, x):
        return ops.relu(self.dense(x))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@COPIES
def test_layers_without_build(copy_of):
    model = around(Block(6))
    copy = copy_of(model)
    assert_is_the_model(copy, model)
    assert isinstance(copy.layers[2], kg.ErrorModulation) == (copy_of is kg.propagate)
    assert_is_the_model(kg.strip(copy), model)


@COPIES
@pytest.mark.parametrize("mode", ["float8", "int8", "int4"])
def test_quantized_models(copy_of, mode):
    if mode == "int4" and keras.__version__.startswith("3.9."):
        pytest.skip("this Keras has no int4")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Dense(4), layers.Dense(2)])
    model.quantize(mode)
    x = np.ones((2, 4), "float32")
    model(x, training=True)
    copy = copy_of(model)
    by_name = [
        {v.path.split("/")[-1]: v.numpy() for v in m.layers[0].variables} for m in (copy, model)
    ]
    assert by_name[0].keys() == by_name[1].keys()
    for name, value in by_name[1].items():
        np.testing.assert_array_equal(by_name[0][name], value, err_msg=name)
    np.testing.assert_array_equal(copy(x), model(x))


class MakesItsWrapper(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = kg.ErrorModulation(layers.Dense(3))

    def call(self, x):
        return self.inner(x)


def test_a_wrapper_that_strip_cannot_take_out_is_refused():
    with pytest.raises(ValueError, match=r"`strip` cannot .* 'mine' of class MakesItsWrapper"):
        kg.strip(around(MakesItsWrapper(name="mine")))


def modulated_once():
    """Layers that hold an `ErrorModulation`, in several ways."""
    block = keras.Sequential([kg.ErrorModulation(layers.Dense(3)), layers.ReLU()])
    return {
        "made by a layer": MakesItsWrapper(),
        "nested model": block,
        "wrapped": kg.ErrorModulation(layers.Dense(3)),
    }


@pytest.mark.parametrize("kind", modulated_once())
def test_what_holds_a_wrapper_is_left_as_it_is(kind):
    model = around(modulated_once()[kind])
    copy = kg.propagate(model, select=lambda layer: layer.name != "first")
    assert_is_the_model(copy, model)
    gradients = []
    for one in (model, copy):
        x = tf.constant(X)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = one(x)
        gradients.append(tape.gradient(y, x))
    np.testing.assert_array_equal(*gradients)


def test_time_distributed_over_a_wrapper_is_left_as_it_is():
    i = keras.Input((2, 3))
    x = layers.TimeDistributed(kg.ErrorModulation(layers.Dense(4)), name="time")(i)
    model = keras.Model(i, layers.Dense(1)(layers.Flatten()(x)))
    copy = kg.propagate(model)
    assert type(copy.get_layer("time")) is layers.TimeDistributed
    stripped = kg.strip(copy)
    assert type(stripped.get_layer("time").layer) is layers.Dense
    x = np.ones((2, 2, 3), "float32")
    assert_is_the_model(stripped, model, x)


def test_a_layer_used_with_a_wrapper_and_without_is_wrapped_on_both_ways():
    i = keras.Input((3,))
    dense = layers.Dense(3, name="dense")
    both = kg.ErrorModulation(dense, name="wrapped")(i) + dense(i)
    model = keras.Model(i, layers.Dense(1, name="head")(both))
    copy = kg.propagate(model)
    assert_is_the_model(copy, model)
    wrapped, plain = copy.get_layer("wrapped"), copy.get_layer("dense")
    assert isinstance(plain, kg.ErrorModulation) and plain.layer is wrapped.layer


@COPIES
def test_states_of_stateful_layers_go_on_as_in_the_model(copy_of):
    model = keras.Sequential(
        [keras.Input(batch_shape=(2, 5, 3)), layers.SimpleRNN(4, stateful=True), layers.Dense(2)]
    )
    x = np.ones((2, 5, 3), "float32")
    first = model(x)
    copy = copy_of(model)
    np.testing.assert_array_equal(copy(x), model(x))
    for layer in copy.layers:
        if hasattr(layer, "reset_state"):
            layer.reset_state()
    np.testing.assert_array_equal(copy(x), first)


@COPIES
def test_a_call_that_was_replaced_on_a_layer_is_refused(copy_of):
    model = around(layers.Dense(3, name="patched"))
    object.__setattr__(model.get_layer("patched"), "call", lambda x: x)
    with pytest.raises(ValueError, match="`call` of layer 'patched'"):
        copy_of(model)
