"""Optimizers of a user's own, with hooks of their own: honoured, or refused."""

import keras
import numpy as np
import pytest
from keras import layers, ops, optimizers

import keras_grapes as kg

# Column 1 is half as strong as column 2: factors 1 and 2.
KERNEL = np.array([[1.0, 4.0], [1.0, 4.0]], "float32") / 100
X = np.ones((4, 2), "float32")


def network():
    dense = [layers.Dense(2, use_bias=False, name=name) for name in ("hidden", "out")]
    model = keras.Sequential([keras.Input((2,)), *dense])
    model.set_weights([KERNEL, KERNEL])
    return model


def steps(optimizer, wrap, eager, batches=1):
    """The steps of the kernels that a model takes with an optimizer."""
    model = network()
    optimizer = kg.Grapes(optimizer, model=model) if wrap else optimizer
    model.compile(optimizer, "mse", run_eagerly=eager)
    for _ in range(batches):
        model.train_on_batch(X, X)
    return [kernel.numpy() - KERNEL for kernel in model.weights]


class TripledInApplyGradients(optimizers.SGD):
    def apply_gradients(self, grads_and_vars):
        return super().apply_gradients([(3.0 * g, v) for g, v in grads_and_vars])


class TripledInApply(optimizers.SGD):
    def apply(self, grads, trainable_variables=None):
        return super().apply([3.0 * g for g in grads], trainable_variables)


class TripledInBackendStep(optimizers.SGD):
    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        super()._backend_update_step([3.0 * g for g in grads], trainable_variables, learning_rate)


class TripledInUpdateStep(optimizers.SGD):
    def update_step(self, gradient, variable, learning_rate):
        super().update_step(3.0 * gradient, variable, learning_rate)


class TripledWhenClipped(optimizers.SGD):
    def _clip_gradients(self, grads):
        return [3.0 * g for g in grads]


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize(
    "optimizer_class",
    [
        TripledInApplyGradients,
        TripledInApply,
        TripledInBackendStep,
        TripledInUpdateStep,
        TripledWhenClipped,
    ],
)
def test_hooks_of_an_optimizer_act_and_are_modulated(optimizer_class, eager):
    plain = steps(optimizers.SGD(0.01), wrap=False, eager=eager)
    hidden, out = steps(optimizer_class(0.01), wrap=True, eager=eager)
    np.testing.assert_allclose(hidden, 3 * plain[0] * [1, 2], rtol=1e-4)
    np.testing.assert_allclose(out, 3 * plain[1], rtol=1e-4)


def test_apply_gradients_returns_what_the_inner_one_does():
    class Counts(optimizers.SGD):
        def apply_gradients(self, grads_and_vars):
            super().apply_gradients(grads_and_vars)
            return "counted"

    variables = network().weights
    pairs = [(ops.ones((2, 2)), variable) for variable in variables]
    assert kg.Grapes(Counts()).apply_gradients(iter(pairs)) == "counted"


class RateOfItsOwn(optimizers.SGD):
    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, self.learning_rate)


class RateThatIsReadAndLeft(optimizers.SGD):
    def update_step(self, gradient, variable, learning_rate):
        learning_rate = ops.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, ops.cast(self.learning_rate, variable.dtype) * gradient)


class StepOfItsOwn(optimizers.SGD):
    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        for gradient, variable in zip(grads, trainable_variables):
            variable.assign_sub(ops.cast(learning_rate, variable.dtype) * gradient)


class ApplyOfItsOwn(optimizers.SGD):
    def apply(self, grads, trainable_variables=None):
        for gradient, variable in zip(grads, trainable_variables):
            variable.assign_sub(self.learning_rate * gradient)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize(
    "optimizer_class, match",
    [
        (RateOfItsOwn, "`RateOfItsOwn`: its `update_step` does not use its argument"),
        (RateThatIsReadAndLeft, "`update_step` does not use its argument `learning_rate`"),
        (StepOfItsOwn, "`StepOfItsOwn`: it steps without calling `update_step"),
        (ApplyOfItsOwn, "`ApplyOfItsOwn`: it steps without calling `update_step"),
    ],
)
def test_an_optimizer_that_would_not_be_modulated_is_refused(optimizer_class, match, eager):
    with pytest.raises(ValueError, match=match):
        steps(optimizer_class(0.01), wrap=True, eager=eager)


def test_a_rate_within_a_condition_counts_as_used():
    class Careful(optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            ops.cond(
                ops.all(ops.isfinite(gradient)),
                lambda: super(Careful, self).update_step(gradient, variable, learning_rate),
                lambda: None,
            )

    plain = steps(optimizers.SGD(0.01), wrap=False, eager=False)
    hidden, _ = steps(Careful(0.01), wrap=True, eager=False)
    np.testing.assert_allclose(hidden, plain[0] * [1, 2], rtol=1e-4)


def test_an_optimizer_may_skip_eager_steps():
    class EverySecond(optimizers.SGD):
        count = 0

        def apply(self, grads, trainable_variables=None):
            self.count += 1
            if self.count % 2 == 0:
                super().apply(grads, trainable_variables)

    hidden, _ = steps(EverySecond(0.01), wrap=True, eager=True)
    np.testing.assert_array_equal(hidden, 0)
    plain = steps(optimizers.SGD(0.01), wrap=False, eager=True)
    hidden, _ = steps(EverySecond(0.01), wrap=True, eager=True, batches=2)
    np.testing.assert_allclose(hidden, plain[0] * [1, 2], rtol=1e-4)


@pytest.mark.parametrize("eager", [False, True])
def test_an_optimizer_of_its_own_may_accumulate(eager):
    options = {"gradient_accumulation_steps": 2}
    plain = steps(optimizers.SGD(0.01, **options), wrap=False, eager=eager, batches=2)
    own = TripledInUpdateStep(0.01, **options)
    hidden, _ = steps(own, wrap=True, eager=eager, batches=2)
    np.testing.assert_allclose(hidden, 3 * plain[0] * [1, 2], rtol=1e-4)


def test_a_wrapper_of_the_users_own_is_refused():
    class Wrapper(optimizers.SGD):
        def __init__(self, inner):
            super().__init__()
            self.wrapped = [inner]

    with pytest.raises(ValueError, match=r"must not be a wrapper.*a `Wrapper`.*way round"):
        kg.Grapes(Wrapper(optimizers.SGD()))


@pytest.mark.parametrize("name", ["LossScaleOptimizer", "MultiOptimizer"])
def test_wrappers_of_keras_are_refused(name):
    if not hasattr(optimizers, name):
        pytest.skip(f"this Keras has no {name}")
    given = optimizers.SGD() if name == "LossScaleOptimizer" else lambda variable: None
    with pytest.raises(ValueError, match=f"must not be a wrapper itself. Received: a `{name}`"):
        kg.Grapes(getattr(optimizers, name)(given))


def test_an_optimizer_of_its_own_over_two_devices(two_devices):
    results = []
    for scope in (None, two_devices):
        with two_devices.scope() if scope else keras.name_scope("one"):
            model = network()
            model.compile(kg.Grapes(TripledInUpdateStep(0.01), model=model), "mse")
        model.fit(X, X, batch_size=4, verbose=0)
        results.append(model.get_weights())
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)


def test_unknown_variables_are_refused_as_by_keras():
    variables = network().weights
    grapes = kg.Grapes(TripledInApply(0.01))
    grapes.build(variables)
    other = keras.Variable(KERNEL, name="kernel")
    with pytest.raises(ValueError, match="Unknown variable"):
        grapes.apply([ops.ones((2, 2))], [other])
