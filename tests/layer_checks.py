"""What holds for every layer, whatever it computes.

A `Case` says how to make a layer and what goes in; each check takes one. `CHECKS` lists them all.
"""

import dataclasses
import json
import typing
import warnings

import keras
import numpy as np
from keras import ops


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer to check.

    Attributes:
        make: Function that returns the layer, of keyword arguments such as `dtype`.
        shape: Tuple of ints, the shape of an input without the batch.
        weights: Int, how many trainable weights it has.
        masks: Bool, whether a mask that comes in goes out, or is used up, without a warning.
        draws: Bool, whether it draws random numbers, so that two calls differ.
        low: Float, where the inputs begin; they end at 1.
    """

    make: typing.Callable
    shape: tuple
    weights: int = 0
    masks: bool = True
    draws: bool = False
    low: float = 0.0

    def inputs(self, batch=3):
        values = np.random.default_rng(0).uniform(self.low, 1, (batch, *self.shape))
        return values.astype("float32")

    def model(self, **options):
        inputs = keras.Input(self.shape)
        return keras.Model(inputs, self.make(**options)(inputs))


def values(tensors):
    return [ops.convert_to_numpy(tensor) for tensor in keras.tree.flatten(tensors)]


def assert_equal(actual, expected):
    for one, other in zip(values(actual), values(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def check_config(case, tmp_path):
    """A layer is made again from its config, which is JSON."""
    layer = case.make(name="own")
    config = layer.get_config()
    again = type(layer).from_config(json.loads(json.dumps(config)))
    assert type(again) is type(layer) and again.name == "own"
    assert json.dumps(again.get_config()) == json.dumps(config)
    # By the registry, without the class at hand.
    described = keras.saving.serialize_keras_object(layer)
    by_registry = keras.saving.deserialize_keras_object(json.loads(json.dumps(described)))
    assert json.dumps(by_registry.get_config()) == json.dumps(config)
    assert described["registered_name"].startswith("keras_grapes>")


def check_weights(case, tmp_path):
    """It has as many weights as are expected, and no two of one name."""
    layer = case.model().layers[-1]
    assert len(layer.trainable_weights) == case.weights
    paths = [weight.path for weight in layer.weights]
    assert len(set(paths)) == len(paths)
    layer.trainable = False
    assert not layer.trainable_weights and len(layer.weights) == len(paths)


def check_symbolic_outputs(case, tmp_path):
    """Symbolic outputs have the shapes and dtypes of the actual ones, for any size of batch."""
    model = case.model()
    for batch in (1, 4):
        x = case.inputs(batch)
        spec = model.layers[-1].compute_output_spec(keras.KerasTensor(x.shape, "float32"))
        actual = keras.tree.flatten(model.layers[-1](x))
        for output, one, symbolic in zip(actual, keras.tree.flatten(spec), model.outputs):
            assert tuple(output.shape) == tuple(one.shape)
            assert tuple(output.shape)[1:] == tuple(symbolic.shape)[1:]
            assert symbolic.shape[0] is None
            dtype = keras.backend.standardize_dtype(output.dtype)
            assert dtype == one.dtype == symbolic.dtype


def check_compiled(case, tmp_path):
    """`predict`, which is compiled, gives what a call gives."""
    model = case.model()
    x = case.inputs()
    if not case.draws:
        for one, other in zip(values(model(x)), values(model.predict(x, verbose=0))):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def check_saving(case, tmp_path):
    """A saved model loads without the class at hand, with its weights and its random state."""
    model = case.model()
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded.layers[-1]) is type(model.layers[-1])
    assert_equal(loaded.weights, model.weights)
    x = case.inputs()
    assert_equal(loaded(x), model(x))
    # Weights alone, into a model of the same code.
    model.save_weights(tmp_path / "model.weights.h5")
    other = case.model()
    other.load_weights(tmp_path / "model.weights.h5")
    assert_equal(other.weights, model.weights)


def check_policies(case, tmp_path):
    """Weights have the dtype of weights and outputs that of computation, gradients are finite."""
    for policy, weights, outputs in (
        ("float64", "float64", "float64"),
        ("mixed_float16", "float32", "float16"),
        ("mixed_bfloat16", "float32", "bfloat16"),
    ):
        keras.utils.set_random_seed(0)
        layer = case.make(dtype=policy)
        result = keras.tree.flatten(layer(case.inputs()))
        assert {keras.backend.standardize_dtype(output.dtype) for output in result} == {outputs}
        assert {weight.dtype for weight in layer.trainable_weights} <= {weights}
        for output in result:
            assert np.isfinite(ops.convert_to_numpy(ops.cast(output, "float32"))).all()


class _LastStepMasked(keras.layers.Layer):
    def call(self, x):
        return x * 1

    def compute_mask(self, x, mask=None):
        steps = np.ones(x.shape[:2], bool)
        steps[:, -1] = False
        return ops.convert_to_tensor(steps)


def check_masking(case, tmp_path):
    """A mask of time steps changes nothing at the steps that count, and goes on with sequences."""
    if not case.masks:
        return
    layer = case.make()
    x = case.inputs()
    plain = layer(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masked = layer(_LastStepMasked()(x))
    for one, other in zip(keras.tree.flatten(masked), keras.tree.flatten(plain), strict=True):
        assert tuple(one.shape) == tuple(other.shape)
        if tuple(one.shape)[:2] == x.shape[:2]:
            assert_equal(one[:, :-1], other[:, :-1])
            mask = ops.convert_to_numpy(one._keras_mask)
            np.testing.assert_array_equal(mask.all(axis=0), [True] * (x.shape[1] - 1) + [False])


def check_training(case, tmp_path):
    """A step of training changes all of its weights, and runs without any."""
    model = case.model()
    head = keras.layers.Dense(2)(keras.layers.Flatten()(model.outputs[0]))
    model = keras.Model(model.inputs, head)
    # Outputs of units that are silent have no use for the weights behind them.
    model.compile(keras.optimizers.SGD(0.5), "mse")
    layer = model.layers[1]
    before = values(layer.trainable_weights)
    for _ in range(2):
        loss = model.train_on_batch(case.inputs(8), np.ones((8, 2)))
    assert np.isfinite(float(np.mean(loss)))
    for weight, value in zip(layer.trainable_weights, before, strict=True):
        assert np.isfinite(ops.convert_to_numpy(weight)).all()
        assert not np.array_equal(ops.convert_to_numpy(weight), value), weight.path


CHECKS = (
    check_config,
    check_weights,
    check_symbolic_outputs,
    check_compiled,
    check_saving,
    check_policies,
    check_masking,
    check_training,
)
