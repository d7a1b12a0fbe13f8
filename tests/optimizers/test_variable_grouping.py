"""A `Grapes` that was saved modulates the layers that it modulated before, or says that it cannot.

All kernels are of one shape, so that one in another's place would not be noticed by its shape.
"""

import json
import warnings

import keras
import numpy as np
import pytest
from keras import layers, optimizers

import keras_grapes as kg

X = np.ones((4, 6), "float32")
NOT_TRAINED_THEN = "not trained then and learn at the plain rate"


def dense(name):
    return layers.Dense(6, name=name)


def chain(names=("a", "b", "c", "out"), **options):
    return keras.Sequential([keras.Input((6,)), *map(dense, names)], **options)


def functional():
    x = y = keras.Input((6,))
    for name in ("a", "b", "c", "out"):
        y = dense(name)(y)
    return keras.Model(x, y)


def nested():
    x = keras.Input((6,))
    body = keras.Sequential([keras.Input((6,)), dense("a"), dense("b")], name="body")
    top = keras.Sequential([keras.Input((6,)), dense("c"), dense("out")], name="top")
    return keras.Model(x, top(body(x)))


@keras.saving.register_keras_serializable(package="test_variable_grouping")
class Subclassed(keras.Model):
    """Its layers have automatic names, which Keras numbers anew when it loads the model."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a, self.b, self.c, self.out = (layers.Dense(6) for _ in range(4))

    def call(self, x):
        return self.out(self.c(self.b(self.a(x))))


def subclassed():
    model = Subclassed()
    model(X)
    return model


MODELS = [chain, functional, nested, subclassed]


def layer_of(model, name):
    if isinstance(model, Subclassed):
        return getattr(model, name)
    return next(la for la in model._flatten_layers() if la.name == name)


def modulated(model, optimizer=None):
    """Names of the layers of a model whose kernels its optimizer modulates."""
    kernels = [g.kernels[0] for g in (optimizer or model.optimizer).groups]
    return [
        n for n in ("a", "b", "c", "out") if any(layer_of(model, n).kernel is k for k in kernels)
    ]


def train(model, optimizer):
    """As far as the optimizer's variables go."""
    model.compile(optimizer, "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def saved(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.models.load_model(tmp_path / "model.keras")


def cloned(model, tmp_path):
    clone = keras.models.clone_model(model)
    if not clone.built:
        clone.build((None, 6))
    clone.optimizer.build(clone.trainable_variables)
    return clone


def deserialized(model, tmp_path):
    config = json.loads(json.dumps(keras.optimizers.serialize(model.optimizer)))
    model.compile(keras.optimizers.deserialize(config), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.filterwarnings("ignore:Skipping variable loading")
@pytest.mark.parametrize("again", [saved, cloned, deserialized])
@pytest.mark.parametrize("make", MODELS)
def test_thawed_since(make, again, tmp_path):
    model = make()
    layer_of(model, "a").trainable = False
    train(model, kg.Grapes("sgd", model=model))
    assert modulated(model) == ["b", "c"]
    layer_of(model, "a").trainable = True
    if again is cloned and make is subclassed:
        pytest.skip("Keras does not clone it with its optimizer")
    # And once more, from what came of it.
    for _ in range(2):
        with pytest.warns(UserWarning, match=NOT_TRAINED_THEN):
            model = again(model, tmp_path)
        assert modulated(model) == ["b", "c"]


@pytest.mark.filterwarnings("ignore:Skipping variable loading")
@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("with_model", [True, False])
def test_frozen_since(make, with_model, tmp_path):
    for frozen, left in [("a", ["b", "c"]), ("out", ["a", "b", "c"])]:
        model = make()
        train(model, kg.Grapes("sgd", model=model if with_model else None))
        assert modulated(model) == ["a", "b", "c"]
        layer_of(model, frozen).trainable = False
        model = saved(model, tmp_path)
        if make is subclassed:
            # No file tells that a layer of it is frozen.
            left = ["a", "b", "c"]
        assert modulated(model) == left


@keras.saving.register_keras_serializable(package="test_variable_grouping")
class TrainsItsTail(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stem = dense("stem")
        self.tail = chain(("a", "b", "out"), name="tail")

    def call(self, x):
        return self.tail(self.stem(x))

    def train_step(self, data):
        return {}


@pytest.mark.filterwarnings("ignore:Skipping variable loading")
def test_trained_in_part(tmp_path):
    model = TrainsItsTail()
    model(X)
    model.compile(kg.Grapes("sgd", model=model), "mse")
    model.optimizer.build(model.tail.trainable_variables)
    with pytest.warns(UserWarning, match=f"{NOT_TRAINED_THEN}.*stem/kernel"):
        loaded = saved(model, tmp_path)
    kernels = [group.kernels[0] for group in loaded.optimizer.groups]
    assert kernels == [layer.kernel for layer in loaded.tail.layers[:2]]


def test_an_optimizer_that_is_not_built_yet_knows_the_frozen_layers_too():
    model = chain()
    model.layers[0].trainable = False
    grapes = kg.Grapes.from_config(kg.Grapes("sgd", model=model).get_config())
    model.layers[0].trainable = True
    grapes.build(model.trainable_variables)
    assert modulated(model, grapes) == ["a", "b", "c"]


def test_two_layers_of_one_path_and_shape(tmp_path):
    """Two nested models may name their layers alike: paths and shapes are those of the other."""
    x = keras.Input((6,))
    parts = []
    for _ in range(2):
        inner = keras.Input((6,))
        parts.append(keras.Model(inner, dense("a")(inner)))
    model = keras.Model(x, dense("out")(parts[1](parts[0](x))))
    parts[0].trainable = False
    train(model, kg.Grapes("sgd", model=model))
    paths = [v.path for v in model.weights]
    assert len(set(paths)) < len(paths), "two of one path"
    loaded = saved(model, tmp_path)
    (group,) = loaded.optimizer.groups
    assert group.kernels[0] is loaded.layers[2].layers[1].kernel


def test_a_model_of_other_names_is_refused():
    config = kg.Grapes("sgd", model=chain()).get_config()
    for names in [("stem", "a", "b", "out"), ("d", "e", "f", "g"), ("a", "b", "c", "head")]:
        other = chain(names)
        with pytest.raises(ValueError, match=r"restored.*Grapes\(\.\.\., model=model\)"):
            kg.Grapes.from_config(config).build(other.trainable_variables)


def test_a_model_of_the_same_names_is_found_by_them():
    grapes = kg.Grapes.from_config(kg.Grapes("sgd", model=chain()).get_config())
    other = chain(("c", "a", "out", "b"))
    grapes.build(other.trainable_variables)
    assert modulated(other, grapes) == ["a", "b", "c"]


def test_cells_of_one_name_in_layers_of_another_are_no_match():
    def recurrent(*names):
        cells = [layers.LSTM(6, return_sequences=True, name=name) for name in names]
        return keras.Sequential([keras.Input((3, 6)), *cells, dense("out")])

    grapes = kg.Grapes("sgd", model=recurrent("a", "b"))
    copy = kg.Grapes.from_config(grapes.get_config())
    with pytest.raises(ValueError, match="does not know"):
        copy.build(recurrent("d", "e").trainable_variables)
    copy.build(recurrent("a", "b").trainable_variables)
    assert [len(group.kernels) for group in copy.groups] == [2, 2]


def test_models_with_automatic_names():
    def automatic():
        return keras.Sequential([keras.Input((6,)), *(layers.Dense(6) for _ in range(3))])

    config = kg.Grapes("sgd", model=automatic()).get_config()
    other = automatic()
    grapes = kg.Grapes.from_config(config)
    grapes.build(other.trainable_variables)
    assert [g.kernels[0] for g in grapes.groups] == [layer.kernel for layer in other.layers[:2]]
    # Which of the three is missing, its number does not tell.
    other.layers[0].trainable = False
    with pytest.raises(ValueError, match="which of several"):
        kg.Grapes.from_config(config).build(other.trainable_variables)


def test_without_a_model_the_names_tell_again_in_another_one():
    grapes = kg.Grapes("sgd")
    grapes.build(chain().trainable_variables)
    other = chain(("d", "e", "f"))
    copy = kg.Grapes.from_config(grapes.get_config())
    copy.build(other.trainable_variables)
    assert [g.kernels[0] for g in copy.groups] == [layer.kernel for layer in other.layers[:2]]
    assert kg.Grapes.from_config(copy.get_config()).get_config() == copy.get_config()


def test_a_part_of_the_kernels_of_a_node_is_refused():
    model = keras.Sequential([keras.Input((3, 6)), layers.SimpleRNN(6), dense("out")])
    config = kg.Grapes("sgd", model=model).get_config()
    model.layers[0].cell.recurrent_kernel.trainable = False
    with pytest.raises(ValueError, match="only a part of the kernels of a node"):
        kg.Grapes.from_config(config).build(model.trainable_variables)


def test_configs_of_positions_alone_are_refused():
    config = kg.Grapes("sgd", model=chain()).get_config()
    config["groups"] = [{"variables": [0], "shapes": [[6, 6]], "incoming_axes": [[0]]}]
    with pytest.raises(ValueError, match=r"positions alone.*compile=False"):
        kg.Grapes.from_config(config)


def test_loaded_from_an_h5_file(tmp_path):
    """Keras's loader of these files builds the optimizer with no variables."""
    model = chain()
    model.compile(kg.Grapes("sgd", model=model), keras.losses.MeanSquaredError())
    model.fit(X, X, verbose=0)
    model.save(tmp_path / "model.h5")
    loaded = keras.models.load_model(tmp_path / "model.h5")
    np.testing.assert_allclose(loaded.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-6)
    loaded.fit(X, X, verbose=0)
    assert modulated(loaded) == ["a", "b", "c"]


def test_stripped_and_propagated_copies_of_a_compiled_model():
    model = chain()
    train(model, kg.Grapes("sgd", model=model))
    with pytest.warns(UserWarning, match="leaves 1 kernels alone"):
        propagated = kg.propagate(model, select=lambda layer: layer.name == "a")
    propagated.fit(X, X, verbose=0)
    assert len(propagated.optimizer.groups) == 2
    stripped = kg.strip(propagated)
    stripped.fit(X, X, verbose=0)
    assert modulated(stripped) == ["a", "b", "c"]


def test_further_variables_learn_at_the_plain_rate():
    model = chain()
    temperature = keras.Variable(1.0, name="temperature")
    mixing = keras.Variable(np.ones((2, 2)), name="mixing")
    grapes = kg.Grapes(optimizers.SGD(1.0), model=model)
    variables = [*model.trainable_variables, temperature, mixing]
    before = [v.numpy() for v in variables]
    with pytest.warns(UserWarning, match="2 variables that are not that model's.*plain rate"):
        grapes.apply([keras.ops.ones(v.shape) for v in variables], variables)
    assert modulated(model, grapes) == ["a", "b", "c"]
    for variable, old in list(zip(variables, before))[-2:]:
        np.testing.assert_array_equal(old - variable.numpy(), np.ones(variable.shape))
    # And again from its config.
    copy = kg.Grapes.from_config(grapes.get_config())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy.build(variables)
    assert modulated(model, copy) == ["a", "b", "c"]


def test_kernels_of_another_model_are_refused_among_those_of_the_model():
    model, other = chain(), chain()
    grapes = kg.Grapes("sgd", model=model)
    with pytest.raises(ValueError, match=r"not that model's, such as \['sequential_1/a/kernel'"):
        grapes.build([*model.trainable_variables, *other.trainable_variables])
    with pytest.raises(ValueError, match="not that model's"):
        grapes.build([layer.bias for layer in other.layers])
    assert not grapes.built
    grapes.build(model.trainable_variables)


def test_layers_that_the_model_gets_later_are_known():
    model = chain(("a", "b"))
    grapes = kg.Grapes("sgd", model=model)
    model.add(dense("c"))
    model.add(dense("out"))
    grapes.build(model.trainable_variables)
    assert modulated(model, grapes) == ["a", "b", "c"]


def test_embeddings_are_left_alone_by_name():
    table = keras.Variable(np.ones((6, 6)), name="embeddings")
    scales = [keras.Variable(np.ones(6), name=name) for name in ("kernel", "my_kernel")]
    kernels = [keras.Variable(np.ones((6, 6)), name=name) for name in ("kernel", "out_kernel")]
    grapes = kg.Grapes("sgd")
    grapes.build([table, *scales, *kernels])
    (group,) = grapes.groups
    assert group.kernels == (kernels[0],)


def test_adapters_are_not_modulated_and_a_warning_says_so():
    model = chain()
    model.layers[0].enable_lora(2)
    for given in (model, None):
        grapes = kg.Grapes("sgd", model=given)
        with pytest.warns(UserWarning, match=r"LoRA adapters.*a/lora_kernel_a.*propagate\(model\)"):
            grapes.build(model.trainable_variables)
        assert modulated(model, grapes) == ["b", "c"]


class Experts(layers.Layer):
    """Kernels of several experts in one variable, of a class that nobody registered."""

    def build(self, input_shape):
        self.gates = self.add_weight(shape=(10, input_shape[-1], input_shape[-1]), name="gates")

    def call(self, x):
        return keras.ops.mean(keras.ops.einsum("bi,eio->beo", x, self.gates), axis=1)


def test_most_weights_of_unknown_classes_are_said():
    model = keras.Sequential([keras.Input((6,)), dense("a"), Experts(), dense("out")])
    with pytest.warns(UserWarning, match=r"360 in layers of the classes \['Experts'\].*beside 72"):
        kg.Grapes("sgd", model=model).build(model.trainable_variables)
    few = keras.Sequential(
        [keras.Input((6,)), *map(dense, "abcdef"), Experts(), *map(dense, "ghijk")]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kg.Grapes("sgd", model=few).build(few.trainable_variables)


@pytest.mark.parametrize(
    "freeze, why", [(False, "has no hidden layer"), (True, "none of its 1 hid")]
)
def test_an_optimizer_that_modulates_nothing_says_so(freeze, why):
    model = chain(("a", "out") if freeze else ("out",))
    if freeze:
        model.layers[0].trainable = False
    with pytest.warns(UserWarning, match=f"modulates nothing: .*{why}"):
        kg.Grapes("sgd", model=model).build(model.trainable_variables)


@pytest.mark.parametrize("make, guessed", [(chain, False), (subclassed, True)])
def test_a_guess_is_known_as_one_also_after_loading(make, guessed, tmp_path):
    model = make()
    train(model, kg.Grapes("sgd", model=model))
    assert model.optimizer.output_guessed == guessed
    assert saved(model, tmp_path).optimizer.output_guessed == guessed
    assert kg.Grapes("sgd").output_guessed
    said = kg.Grapes("sgd", model=model, output_layers=[layer_of(model, "b")])
    assert not said.output_guessed
    assert said.output_layers_of(model) == [layer_of(model, "b")]
    assert said.output_layers_of(make()) is None
