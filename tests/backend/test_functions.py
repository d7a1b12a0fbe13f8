"""What `keras_grapes.backend` promises, on the backend that Keras runs on."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_grapes import backend

pytestmark = pytest.mark.every_backend


def array(tensor):
    return ops.convert_to_numpy(tensor)


def tensor(*values):
    return ops.convert_to_tensor(np.array(values, "float32"))


def test_backend_is_that_of_keras():
    assert backend.name == keras.backend.backend()


def test_custom_gradient_of_several_inputs_and_outputs():
    @backend.custom_gradient
    def function(x, y, flag):
        outputs = (ops.where(flag, x * y, x), x + y)
        return outputs, lambda first, second: (2 * first + second, 3 * first, None)

    x, y = keras.Variable([1.0, 2.0]), keras.Variable([3.0, 4.0])

    def loss():
        first, second = function(x * 1.0, y * 1.0, ops.convert_to_tensor([True, False]))
        return ops.sum(first) + 5 * ops.sum(second)

    value, (by_x, by_y) = backend.gradients(loss, [x, y])
    assert float(value) == (3 + 2) + 5 * (4 + 6)
    np.testing.assert_array_equal(array(by_x), [7, 7])
    np.testing.assert_array_equal(array(by_y), [3, 3])


def test_custom_gradient_of_one_output_that_is_the_input():
    @backend.custom_gradient
    def function(x):
        return x, lambda error: (7 * error,)

    np.testing.assert_array_equal(array(function(tensor(1, 2))), [1, 2])
    x = keras.Variable([1.0, 2.0])
    _, (by_x,) = backend.gradients(lambda: ops.sum(function(x * x)), [x])
    np.testing.assert_array_equal(array(by_x), [7 * 2, 7 * 4])


def test_custom_gradient_from_a_pullback():
    @backend.custom_gradient
    def function(x):
        cubed, pullback = backend.vjp(lambda x: x**3, x)
        return cubed, lambda error: pullback(2 * error)

    x = keras.Variable([1.0, 2.0])
    value, (by_x,) = backend.gradients(lambda: ops.sum(function(x * 1.0)), [x])
    assert float(value) == 9
    np.testing.assert_allclose(array(by_x), [2 * 3, 2 * 12], rtol=1e-6)


def test_vjp_pulls_errors_back_again_and_again():
    outputs, pullback = backend.vjp(lambda x, y: (x * y, 2 * x), tensor(1, 2), tensor(3, 4))
    np.testing.assert_array_equal(array(outputs[0]), [3, 8])
    np.testing.assert_array_equal(array(outputs[1]), [2, 4])
    by_x, by_y = pullback(tensor(1, 1), tensor(0, 10))
    np.testing.assert_array_equal(array(by_x), [3, 4 + 20])
    np.testing.assert_array_equal(array(by_y), [1, 2])
    by_x, _ = pullback(tensor(0, 1), tensor(0, 0))
    np.testing.assert_array_equal(array(by_x), [0, 4])


def test_vjp_is_zero_where_an_input_has_no_effect():
    _, pullback = backend.vjp(lambda x, y: 3 * x, tensor(1, 2), tensor(3, 4))
    by_x, by_y = pullback(tensor(1, 1))
    np.testing.assert_array_equal(array(by_x), [3, 3])
    np.testing.assert_array_equal(array(by_y), [0, 0])


def test_outputs_of_vjp_keep_their_gradient():
    @backend.custom_gradient
    def function(x):
        return x, lambda error: (7 * error,)

    x = keras.Variable([1.0, 2.0])

    def loss():
        outputs, _ = backend.vjp(lambda y: 3 * function(y), x * x)
        return ops.sum(outputs)

    value, (by_x,) = backend.gradients(loss, [x])
    assert float(value) == 3 * (1 + 4)
    np.testing.assert_array_equal(array(by_x), [3 * 7 * 2, 3 * 7 * 4])


def test_custom_gradient_may_use_what_is_differentiated_elsewhere():
    x = keras.Variable([1.0, 2.0])

    def loss():
        doubled = 2 * x

        @backend.custom_gradient
        def function(y):
            return y, lambda error: (error * doubled,)

        return ops.sum(function(x * x)) + ops.sum(doubled)

    value, (by_x,) = backend.gradients(loss, [x])
    assert float(value) == 5 + 6
    np.testing.assert_array_equal(array(by_x), [2 * 2 + 2, 4 * 4 + 2])


def test_vjp_draws_random_numbers_once():
    layer = keras.layers.Dropout(0.5, seed=0)
    ones = ops.ones((1, 100))
    state = array(layer.seed_generator.state)
    outputs, pullback = backend.vjp(lambda x: layer(x, training=True), ones)
    (error,) = pullback(ones)
    np.testing.assert_array_equal(array(error), array(outputs))
    once = array(layer.seed_generator.state)
    assert (once != state).any()
    layer(ones, training=True)
    np.testing.assert_array_equal(array(layer.seed_generator.state) - once, once - state)


def test_vjp_keeps_what_layers_assign():
    layer = keras.layers.BatchNormalization(momentum=0.5)
    layer.build((None, 2))
    backend.vjp(lambda x: layer(x, training=True), ops.convert_to_tensor([[1.0, 2.0], [3.0, 6.0]]))
    np.testing.assert_allclose(array(layer.moving_mean), [1, 2])


def test_jvp():
    outputs, pushed = backend.jvp(
        lambda x, y: (x * y, ops.square(x)),
        [tensor(1, 2), tensor(3, 4)],
        [tensor(1, 10), tensor(1, 0)],
    )
    np.testing.assert_array_equal(array(outputs[0]), [3, 8])
    np.testing.assert_array_equal(array(pushed[0]), [3 + 1, 40])
    np.testing.assert_array_equal(array(pushed[1]), [2, 40])


def test_gradients_of_what_has_no_effect_are_none_or_zero():
    x, y = keras.Variable([1.0, 2.0]), keras.Variable([3.0])
    value, (by_x, by_y) = backend.gradients(lambda: ops.sum(x * x), [x, y])
    assert float(value) == 5
    np.testing.assert_array_equal(array(by_x), [2, 4])
    assert by_y is None or not array(by_y).any()


def test_gradients_keep_what_layers_assign():
    layer = keras.layers.BatchNormalization(momentum=0.5)
    layer.build((None, 1))
    x = ops.convert_to_tensor([[1.0], [3.0]])
    _, (_, by_shift) = backend.gradients(
        lambda: ops.sum(layer(x, training=True)), layer.trainable_variables
    )
    np.testing.assert_allclose(array(by_shift), [2])
    np.testing.assert_allclose(array(layer.moving_mean), [1])


def test_identity():
    np.testing.assert_array_equal(array(backend.identity(tensor(1, 2), after=[tensor(3)])), [1, 2])


@pytest.mark.parametrize("stride", [1, -1])
def test_loop_over_time_keeps_records_in_the_order_of_time(stride):
    inputs = np.array([[1.0], [2.0], [4.0]], "float32")

    def run():
        x = ops.convert_to_tensor(inputs)

        def step(time, state):
            (s,) = state
            s = 10 * s + x[time]
            return [s], [[s]]

        first = 0 if stride == 1 else 2
        return backend.loop_over_time(step, [ops.zeros(1)], (first, 3, stride), [-ops.ones(1)])

    (last,), (record,) = run()
    expected = [-1, 1, 12, 124] if stride == 1 else [-1, 421, 42, 4]
    np.testing.assert_array_equal(array(last), [124 if stride == 1 else 421])
    np.testing.assert_array_equal(array(record)[:, 0], expected)
    np.testing.assert_array_equal(array(record[2]), [42 if stride == -1 else 12])


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("stride", [1, -1])
def test_loop_over_time_takes_blocks_of_steps(stride, blocks):
    def step(block, state):
        (s,) = state
        return [s + 1], [[s + 10 * block, s + 10 * block + 5]]

    first = 0 if stride == 1 else blocks - 1
    _, (record,) = backend.loop_over_time(
        step, [ops.zeros(1)], (first, blocks, stride), [-ops.ones(1)], steps=2
    )
    states = range(blocks)[::stride]
    expected = [s + 10 * block + extra for block, s in enumerate(states) for extra in (0, 5)]
    np.testing.assert_array_equal(array(record)[:, 0], [-1, *expected])


def test_loop_over_time_has_a_gradient():
    x = keras.Variable([2.0])

    def loss():
        (last,), _ = backend.loop_over_time(
            lambda time, state: ([state[0] * x], [[state[0]]]), [x * 1.0], (0, 3, 1), [ops.zeros(1)]
        )
        return ops.sum(last)

    _, (by_x,) = backend.gradients(loss, [x])
    np.testing.assert_allclose(array(by_x), [4 * 2**3])


def test_operations_run_eagerly():
    with backend.eagerly():
        assert float(ops.sum(ops.ones(3))) == 3


def test_random_numbers_come_from_the_key():
    def uniform(*key):
        return array(backend.random_uniform((1000, 3), ops.convert_to_tensor(key, "int32")))

    draws = uniform(3, 4)
    np.testing.assert_array_equal(draws, uniform(3, 4))
    for key in ((4, 3), (3, 5), (2**31 - 1, 4), (0, 4)):
        assert np.mean(draws == uniform(*key)) < 0.01, key
    assert draws.dtype == np.float32
    assert draws.min() >= 0 and draws.max() < 1
    # Five standard errors.
    assert abs(draws.mean() - 0.5) < 5 * np.sqrt(1 / 12 / draws.size)
    normal = array(backend.random_normal((3000,), 2.0, ops.convert_to_tensor([3, 4], "int32")))
    assert abs(normal.mean()) < 5 * 2 / np.sqrt(3000)
    assert abs(normal.std() - 2) < 5 * 2 / np.sqrt(2 * 3000)


def test_variables():
    x, y = keras.Variable([1.0]), keras.Variable([1.0])
    assert backend.is_variable(x)
    assert not backend.is_variable(ops.ones(1))
    assert not backend.is_variable(np.ones(1))
    key = backend.variable_key(x)
    x.assign([2.0])
    assert backend.variable_key(x) == key != backend.variable_key(y)


def test_dense_gradients_are_not_sparse():
    assert not backend.is_sparse_gradient(ops.ones((3, 2)))


def test_values_are_there_outside_of_graphs():
    assert backend.runs_eagerly()
    assert backend.has_values(ops.ones(2))
    seen = []

    class Looks(keras.layers.Layer):
        def call(self, inputs):
            seen.append((backend.runs_eagerly(), backend.has_values(inputs)))
            return inputs

    keras.Sequential([keras.Input((2,)), Looks()]).predict(np.ones((1, 2)), verbose=0)
    # The shapes are inferred without values; PyTorch then predicts with them.
    assert seen[0] == (False, False)


def test_whether_what_is_written_depends_on_a_tensor():
    x = keras.Variable([1.0, 2.0])

    def writes(rate):
        x.assign(x - 0.0 * rate)

    def ignores(rate):
        x.assign(2.0 * x)

    assert backend.changes_state_by(writes, (2,), "float32")
    assert not backend.changes_state_by(ignores, (2,), "float32")
    np.testing.assert_array_equal(array(x), [1, 2])


@pytest.mark.parametrize("name", ["SGD", "Adam", "Nadam", "Adafactor"])
def test_update_one_by_one_calls_the_step_of_every_variable(name):
    def train(one_by_one):
        optimizer = getattr(keras.optimizers, name)(0.1)
        steps = []
        if one_by_one:
            backend.update_one_by_one(optimizer)
        step = optimizer.update_step

        def counted(gradient, variable, learning_rate):
            steps.append(variable)
            return step(gradient, variable, learning_rate)

        optimizer.update_step = counted
        weights = [keras.Variable([[1.0, -2.0]]), keras.Variable([3.0])]
        for _ in range(4):
            optimizer.apply([2 * ops.convert_to_tensor(w) for w in weights], weights)
        return steps, [array(w) for w in weights]

    steps, trained = train(one_by_one=True)
    assert len(steps) == 4 * 2
    _, expected = train(one_by_one=False)
    for one, other in zip(trained, expected):
        np.testing.assert_allclose(one, other, atol=1e-5)
