"""Weights as devices store them: with few bits, and with noise on every update.

The paper trains under noise and reduced precision without defining them; the definitions here are
ours. They are Keras constraints, which every optimizer applies to a weight after its update. So
they work with `keras_grapes.Grapes`, propagated models and the feedback models. A step that loss
scaling skips does not change the weights.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_grapes import graph, random
from keras_grapes.checks import check_model, check_number, is_int, is_number
from keras_grapes.groups import weight_layers
from keras_grapes.types import Tensor

__all__ = ["Chain", "FixedPoint", "UpdateNoise", "constrain"]

ROUNDINGS = ("nearest", "stochastic")

_KERNEL_NAMES = ("kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel")


@keras.saving.register_keras_serializable(package="keras_grapes")
class FixedPoint(keras.constraints.Constraint):
    """Rounds weights to fixed-point numbers after every update.

    A rounded weight is a multiple of `range / 2**(bits - 1)`, from `-range` to one step below
    `range`, as a signed integer of `bits` bits stores it. It is the nearest multiple (halfway
    between two, the even one), or one of the two neighbours at random, so that it is correct on
    average. Values out of range are clipped.

    Rounding to the nearest multiple loses updates smaller than half a step; stochastic rounding
    keeps them on average.

    Args:
        bits: Int from 2 to 16, including the sign.
        range: Float, the largest absolute weight. Defaults to 1.
        rounding: String, `"nearest"` or `"stochastic"`. Defaults to `"nearest"`.
        seed: Int that makes stochastic rounding reproducible. Defaults to `None`.

    Call arguments:
        weight: Variable or tensor.

    Raises:
        ValueError: If an argument is not one of the values above.

    References:
        - [Gupta et al., 2015](https://arxiv.org/abs/1502.02551), for stochastic rounding.

    Example:

    >>> import keras_grapes as kg
    >>> kg.hardware.FixedPoint(bits=3, range=1.0)([0.1, 0.2, -0.6, -3.0, 3.0]).numpy()
    array([ 0.  ,  0.25, -0.5 , -1.  ,  0.75], dtype=float32)
    """

    def __init__(
        self, bits: int, range: float = 1.0, rounding: str = "nearest", seed: int | None = None
    ) -> None:
        if not is_int(bits) or not 2 <= bits <= 16:
            raise ValueError(f"`bits` must be an int from 2 to 16. Received: bits={bits!r}")
        if rounding not in ROUNDINGS:
            raise ValueError(
                f"`rounding` must be one of {ROUNDINGS}. Received: rounding={rounding!r}"
            )
        self.bits = int(bits)
        self._codes = 2 ** (self.bits - 1)
        self.range = check_number("range", range, above=0)
        self.rounding = rounding
        self.seed = seed
        self._seeds = _seed_generator(seed) if rounding == "stochastic" else None

    def __call__(self, weight: Tensor) -> Tensor:
        weight = ops.convert_to_tensor(weight)
        code = ops.cast(weight, "float32") * (self._codes / self.range)
        rounded = self._decode(ops.round(code), weight.dtype)
        if self._seeds is None:
            return rounded
        low = ops.floor(code)
        up = random.uniform(ops.shape(code), self._seeds, changing=weight) < code - low
        drawn = self._decode(low + ops.cast(up, "float32"), weight.dtype)
        # In float32 the code of a weight that is on the grid need not be whole.
        return ops.where(ops.equal(rounded, weight), weight, drawn)

    def _decode(self, code, dtype):
        code = ops.clip(code, -self._codes, self._codes - 1)
        return ops.cast(code * (self.range / self._codes), dtype)

    def get_config(self) -> dict:
        return {
            "bits": self.bits,
            "range": self.range,
            "rounding": self.rounding,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="keras_grapes")
class UpdateNoise(keras.constraints.Constraint):
    """Adds noise to weights after every update, as writing to an analog device does.

    After every update, however small, each weight gets a new normally distributed number with mean
    0 and standard deviation `stddev * range` added: an error relative to the range of the weights.
    To limit the weights to the range as well, add a `FixedPoint` after it:
    `Chain([UpdateNoise(0.01), FixedPoint(8)])`.

    Args:
        stddev: Float, at least 0, the standard deviation of the noise as a share of `range`.
        range: Float, the largest absolute weight that the device holds. Defaults to 1.
        seed: Int that makes the noise reproducible. Defaults to `None`.

    Call arguments:
        weight: Variable or tensor.

    Raises:
        ValueError: If an argument is not one of the values above.

    Example:

    >>> import keras_grapes as kg
    >>> noise = kg.hardware.UpdateNoise(stddev=0.01, seed=0)
    >>> noise([0.5, 0.5]).shape
    TensorShape([2])
    """

    def __init__(self, stddev: float, range: float = 1.0, seed: int | None = None) -> None:
        self.stddev = 0.0 if _is_zero(stddev) else check_number("stddev", stddev, above=0)
        self.range = check_number("range", range, above=0)
        self.seed = seed
        self._seeds = _seed_generator(seed)

    def __call__(self, weight: Tensor) -> Tensor:
        weight = ops.convert_to_tensor(weight)
        stddev = self.stddev * self.range
        noise = random.normal(ops.shape(weight), stddev, self._seeds, changing=weight)
        return ops.cast(ops.cast(weight, "float32") + noise, weight.dtype)

    def get_config(self) -> dict:
        return {"stddev": self.stddev, "range": self.range, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_grapes")
class Chain(keras.constraints.Constraint):
    """Applies constraints one after another.

    Args:
        constraints: List of `keras.constraints.Constraint`s, the first one first.

    Call arguments:
        weight: Variable or tensor.

    Raises:
        TypeError: If `constraints` is no such list.

    Example:

    >>> import keras_grapes as kg
    >>> chain = kg.hardware.Chain([kg.hardware.UpdateNoise(0.0), kg.hardware.FixedPoint(3)])
    >>> chain([0.2, 5.0]).numpy()
    array([0.25, 0.75], dtype=float32)
    """

    def __init__(self, constraints: Sequence[keras.constraints.Constraint]) -> None:
        if not isinstance(constraints, (list, tuple)) or not constraints:
            raise TypeError(
                "`constraints` must be a list of `keras.constraints.Constraint`s. Received: "
                f"constraints={constraints!r}"
            )
        self.constraints = [_get_constraint(constraint) for constraint in constraints]

    def __call__(self, weight: Tensor) -> Tensor:
        for constraint in self.constraints:
            weight = constraint(weight)
        return weight

    def get_config(self) -> dict:
        return {
            "constraints": [
                keras.saving.serialize_keras_object(constraint) for constraint in self.constraints
            ]
        }

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["constraints"]))


def constrain(
    model: keras.Model,
    constraint: keras.constraints.Constraint | Sequence[keras.constraints.Constraint] | None,
) -> keras.Model:
    """Puts a constraint on the kernels of all layers of a model, hidden and output.

    The constraint replaces existing ones and acts from the next update on. Each kernel gets its own
    copy, so that the random numbers of two layers differ; with a seed they are reproducible. Biases
    and the weights of normalization and embedding layers stay unconstrained.

    The constraints are saved with the model. The exception are layers that consist of other layers
    and have only one argument for all of them, such as `MultiHeadAttention`: constrain the loaded
    model again. If a saved model continues training, its random numbers start again.

    Args:
        model: A built `keras.Model`, plain, propagated or a feedback model.
        constraint: A `keras.constraints.Constraint`, or a list of them to apply one after another.
            `None` removes the constraints.

    Returns:
        `model`, changed.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `model` is not built or has no kernels.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8, name="hidden"), keras.layers.Dense(3),
    ... ])
    >>> noisy = [kg.hardware.UpdateNoise(0.01), kg.hardware.FixedPoint(bits=6)]
    >>> model = kg.hardware.constrain(kg.propagate(model), noisy)
    """
    check_model("model", model)
    if isinstance(constraint, (list, tuple)):
        constraint = Chain(constraint)
    elif constraint is not None:
        constraint = _get_constraint(constraint)
    kernels = {
        id(kernel): (entry.layer, kernel)
        for entry in weight_layers(model)
        for group in entry.groups
        for kernel in group.kernels
        if isinstance(kernel, keras.Variable)
    }
    if not kernels:
        raise ValueError(
            f"`model` must be built and have layers with kernels. Received: model '{model.name}', "
            "which has none."
        )
    for place, (layer, kernel) in enumerate(kernels.values()):
        kernel.constraint = copy = _copy_for(constraint, place)
        # The layer that owns it has it in its config, and so in the saved model.
        for owner in [layer, *graph.all_layers(layer)]:
            for name in _KERNEL_NAMES:
                argument = name.removesuffix("_kernel") + "_constraint"
                if getattr(owner, name, None) is kernel and hasattr(owner, argument):
                    setattr(owner, argument, copy)
    if model.compiled and model.train_function is not None:
        # What was traced before knows nothing of the constraints.
        model.make_train_function(force=True)
    return model


def _copy_for(constraint, place):
    if constraint is None:
        return None
    if isinstance(constraint, Chain):
        return Chain([_copy_for(part, place) for part in constraint.constraints])
    config = constraint.get_config()
    if config.get("seed") is not None:
        child = np.random.SeedSequence([config["seed"], place]).generate_state(1)[0]
        config["seed"] = int(child) >> 1
    return type(constraint).from_config(config)


def _get_constraint(constraint):
    if not isinstance(constraint, keras.constraints.Constraint):
        raise TypeError(
            "A constraint must be a `keras.constraints.Constraint`, such as "
            f"`keras_grapes.hardware.FixedPoint(8)`. Received: {constraint!r}"
        )
    return constraint


def _seed_generator(seed):
    if seed is not None and not (is_int(seed) and seed >= 0):
        raise ValueError(f"`seed` must be a non-negative int or None. Received: seed={seed!r}")
    return keras.random.SeedGenerator(None if seed is None else int(seed))


def _is_zero(value):
    return is_number(value) and value == 0
