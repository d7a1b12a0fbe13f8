"""Node importance and modulation factor: the mathematics of GRAPES on plain tensors.

Nothing here knows of layers, models or optimizers. References:
[Dellaferrera et al., Nature Communications 13, 1885 (2022)](https://doi.org/10.1038/s41467-022-29491-2).
"""

import dataclasses
import functools
import math
import numbers
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_grapes import backend
from keras_grapes.checks import is_number
from keras_grapes.types import IncomingAxes, Tensor

__all__ = ["Modulation", "modulation_factor", "node_importance"]

GRANULARITIES = ("node", "layer")

# Weights that a processor's cache holds, so that their order in memory does not matter.
_FITS_CACHE = 2**16
# Of a kernel that is larger. More of them take longer to trace.
_MOST_PIECES = 32


def node_importance(
    kernel: Tensor | Sequence[Tensor], incoming_axes: IncomingAxes = None
) -> Tensor:
    """Sums the absolute weights that enter each node (Eq. 1 of the paper).

    `importance[n] = sum over incoming p of |kernel[p, n]|`. The sum is taken in float32, or in
    float64 for a float64 kernel, whatever lower precision the weights have.

    Args:
        kernel: Tensor or variable, the weights of a layer, for example `(inputs, units)` for a
            `Dense` layer or `(height, width, inputs, filters)` for a `Conv2D` layer. A list of
            them when several kernels feed the same nodes: their sums are added.
        incoming_axes: Int or tuple of ints, the axes of `kernel` to sum over; the other axes are
            the nodes. `None` stands for all axes but the last. For a list of kernels it applies
            to each of them, and a *list* gives one entry per kernel. Defaults to `None`.

    Returns:
        Tensor with the shape of the nodes, `(units,)` in the common case.

    Raises:
        TypeError: If `kernel` is not made of real numbers.
        ValueError: If an axis is out of range or named twice, if no axis is left for the nodes, or
            if the kernels of a list do not feed the same number of nodes.

    Example:

    >>> import keras_grapes as kg
    >>> kg.node_importance([[1.0, -4.0], [2.0, 0.0]]).numpy()
    array([3., 4.], dtype=float32)
    """
    kernels, axes = _pair_with_axes(kernel, incoming_axes)
    sums = [_sum_of_absolute(_at_least_float32("kernel", k), a) for k, a in zip(kernels, axes)]
    shapes = [tuple(s.shape) for s in sums]
    if len(set(shapes)) > 1:
        raise ValueError(
            "All kernels of a list must feed the same nodes. Received: `kernel` with node shapes "
            f"{shapes} for `incoming_axes`={incoming_axes}. Pass kernels of different nodes in "
            "separate calls."
        )
    return functools.reduce(ops.add, sums)


def modulation_factor(importance: Tensor, bounds: tuple[float, float] = (1.0, 2.0)) -> Tensor:
    """Turns the importance of a layer's nodes into factors on their error (Eq. 2 of the paper).

    `factor = clip(high * importance / max(importance), low, high)`, a constant to
    differentiation. Where all importances are zero the factor is 1.

    Args:
        importance: Tensor of the importances of all nodes of one layer, not negative.
        bounds: Tuple `(low, high)` of floats. Defaults to `(1.0, 2.0)`, the paper's interval.

    Returns:
        Tensor shaped as `importance`.

    Raises:
        TypeError: If `importance` is not made of real numbers.
        ValueError: If `bounds` is not a pair of finite numbers with `0 <= low <= high`, `high > 0`.

    Example:

    >>> import keras_grapes as kg
    >>> kg.modulation_factor([3.0, 4.0, 1.0]).numpy()
    array([1.5, 2. , 1. ], dtype=float32)
    """
    low, high = _check_bounds(bounds)
    importance = _at_least_float32("importance", importance)
    # Finite where the sum has overflowed.
    highest = np.finfo(keras.backend.standardize_dtype(importance.dtype)).max
    importance = ops.minimum(importance, highest)
    largest = ops.max(importance)
    # At most `high`, and exactly that for the largest, as a share of it is at most exactly 1.
    factor = ops.maximum(high * ops.divide_no_nan(importance, largest), low)
    if low != 1:
        factor = ops.where(largest == 0, 1.0, factor)
    return ops.stop_gradient(factor)


@keras.saving.register_keras_serializable(package="keras_grapes")
@dataclasses.dataclass(frozen=True)
class Modulation:
    """How the weights that enter a node modulate the error of that node.

    The defaults are GRAPES. The two switches complete a 2 x 2 design that tells what a gain comes
    from, the pattern over the nodes or the raised mean:

    | `granularity` | `unit_mean` | node-wise pattern | raised mean |
    |---------------|-------------|-------------------|-------------|
    | `"node"`      | `False`     | yes               | yes         |
    | `"layer"`     | `False`     | no                | yes         |
    | `"node"`      | `True`      | yes               | no          |
    | `"layer"`     | `True`      | no                | no          |

    Args:
        bounds: Tuple `(low, high)` of floats, the interval of the factors before `unit_mean`
            divides them. Defaults to `(1.0, 2.0)`.
        granularity: String, `"node"` for one factor per node, `"layer"` for their mean in place of
            each of them. Defaults to `"node"`.
        unit_mean: Bool, whether to divide the factors of a layer by their mean. Defaults to
            `False`.

    Call arguments:
        kernel: As in `keras_grapes.node_importance`.
        incoming_axes: As in `keras_grapes.node_importance`.

    Raises:
        ValueError: If an argument is not one of the values above.

    References:
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), Eq. 1 and 2.

    Example:

    >>> import keras_grapes as kg
    >>> kernel = [[1.0, -4.0], [2.0, 0.0]]
    >>> kg.Modulation()(kernel).numpy()
    array([1.5, 2. ], dtype=float32)
    >>> kg.Modulation(granularity="layer")(kernel).numpy()
    array([1.75, 1.75], dtype=float32)
    """

    bounds: tuple = (1.0, 2.0)
    granularity: str = "node"
    unit_mean: bool = False

    def __post_init__(self):
        object.__setattr__(self, "bounds", _check_bounds(self.bounds))
        if self.granularity not in GRANULARITIES:
            raise ValueError(
                f"`granularity` must be one of {GRANULARITIES}. "
                f"Received: granularity={self.granularity!r}"
            )
        if not isinstance(self.unit_mean, bool):
            raise ValueError(
                f"`unit_mean` must be True or False. Received: unit_mean={self.unit_mean!r}"
            )

    def __call__(
        self, kernel: Tensor | Sequence[Tensor], incoming_axes: IncomingAxes = None
    ) -> Tensor:
        factor = modulation_factor(node_importance(kernel, incoming_axes), self.bounds)
        if self.unit_mean:
            factor = factor / ops.mean(factor)
        if self.granularity == "layer":
            factor = ops.broadcast_to(ops.mean(factor), ops.shape(factor))
        return factor

    def get_config(self) -> dict:
        return {
            "bounds": list(self.bounds),
            "granularity": self.granularity,
            "unit_mean": self.unit_mean,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    @classmethod
    def get(cls, identifier: Any) -> "Modulation":
        """Returns the `Modulation` that an argument `modulation=` stands for.

        Args:
            identifier: A `Modulation` or its serialized config.

        Raises:
            TypeError: If `identifier` is neither.
        """
        if isinstance(identifier, dict):
            identifier = keras.saving.deserialize_keras_object(identifier)
        if not isinstance(identifier, cls):
            raise TypeError(
                "`modulation` must be a `keras_grapes.Modulation`, such as "
                f"modulation=keras_grapes.Modulation(). Received: modulation={identifier!r} of "
                f"type {type(identifier).__name__}"
            )
        return identifier


def normalize_axes(axes, rank):
    """Returns `axes` of a kernel of `rank` axes as a sorted tuple of non-negative ints."""
    if axes is None:
        axes = range(rank - 1)
    elif not isinstance(axes, (list, tuple)):
        axes = (axes,)
    axes = tuple(axes)
    if not all(isinstance(a, numbers.Integral) and -rank <= a < rank for a in axes):
        raise ValueError(
            f"`incoming_axes` must be ints from {-rank} to {rank - 1} for a kernel with {rank} "
            f"axes. Received: incoming_axes={axes}"
        )
    normalized = tuple(sorted({int(a) % rank for a in axes}))
    if len(normalized) < len(axes):
        raise ValueError(f"`incoming_axes` names an axis twice. Received: incoming_axes={axes}")
    if len(normalized) >= rank:
        raise ValueError(
            "`incoming_axes` must leave at least one axis of the kernel for its nodes. Received: "
            f"incoming_axes={axes} for a kernel with {rank} axes"
        )
    return normalized


def _pair_with_axes(kernel, incoming_axes):
    if isinstance(kernel, (list, tuple)) and kernel and _has_shape(kernel[0]):
        kernels = list(kernel)
        axes = incoming_axes if isinstance(incoming_axes, list) else [incoming_axes] * len(kernels)
        if len(axes) != len(kernels):
            raise ValueError(
                "A list of `incoming_axes` must have one entry per kernel. Received: "
                f"{len(axes)} entries for {len(kernels)} kernels"
            )
    else:
        kernels, axes = [kernel], [incoming_axes]
        if isinstance(incoming_axes, list):
            axes = [tuple(incoming_axes)]
    kernels = [_real_tensor("kernel", k) for k in kernels]
    return kernels, [normalize_axes(a, len(k.shape)) for a, k in zip(axes, kernels)]


def _sum_of_absolute(weights, axes):
    *leading, last = weights.shape
    if not axes:
        return ops.abs(weights)  # Each weight is a node.
    if None in weights.shape:
        return ops.sum(ops.abs(weights), axis=axes)
    size = math.prod(weights.shape)
    if axes == tuple(range(len(leading))):
        rows = math.prod(leading)
        if len(leading) > 1:
            weights = ops.reshape(weights, (rows, last))
        if size <= _FITS_CACHE or backend.is_compiled():
            return _sum_down(ops.abs(weights))
        # Piece by piece, so that the absolute values are read while they are in the cache.
        height = max(1, _FITS_CACHE // last, -(-rows // _MOST_PIECES))
        pieces = [weights[start : start + height] for start in range(0, rows, height)]
        return functools.reduce(ops.add, [_sum_down(ops.abs(piece)) for piece in pieces])
    weights = ops.abs(weights)
    if size > _FITS_CACHE and axes[-1] == len(leading):
        # As in `_sum_down`: along rows a sum adds one by one.
        block = _largest_divisor(last, 64)
        weights = ops.reshape(weights, (*leading, last // block, block))
        return ops.sum(ops.abs(ops.sum(weights, axis=-2)), axis=axes)
    return ops.sum(weights, axis=axes)


def _sum_down(weights):
    """Sums the columns of a matrix that is not negative."""
    rows, columns = weights.shape
    if rows * columns <= _FITS_CACHE:
        return ops.sum(weights, axis=0)
    # In two stages, each in steps of neighbours in memory: down long columns a sum strides through
    # memory, which takes two to three times as long (benchmarks/overhead.py,
    # benchmarks/feedback.py). The `abs` changes no value; it keeps XLA from merging the two sums
    # into one again.
    block = _largest_divisor(rows, 16)
    weights = ops.reshape(weights, (rows // block, block, columns))
    return ops.sum(ops.abs(ops.sum(weights, axis=1)), axis=0)


def _largest_divisor(number, limit):
    return max(size for size in range(1, limit + 1) if number % size == 0)


def _has_shape(value):
    return hasattr(value, "shape") and len(value.shape) > 0


def _real_tensor(name, value):
    problem = None
    try:
        tensor = ops.convert_to_tensor(value)
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        if dtype.startswith(("bool", "int", "uint", "float", "bfloat")):
            return tensor
    except (TypeError, ValueError) as error:
        problem = error
    raise TypeError(
        f"`{name}` must be a tensor or array of real numbers. Received: {name}={value!r} of type "
        f"{type(value).__name__}"
    ) from problem


def _at_least_float32(name, tensor):
    tensor = _real_tensor(name, tensor)
    if keras.backend.standardize_dtype(tensor.dtype) == "float64":
        return tensor
    return ops.cast(tensor, "float32")


def _check_bounds(bounds):
    problem = None
    try:
        low, high = bounds
        numeric = all(map(is_number, (low, high)))
        if not (numeric and math.isfinite(low) and math.isfinite(high)):
            problem = "`bounds` must be two finite numbers (low, high)"
        elif low < 0 or low > high or high == 0:
            problem = "`bounds` must fulfil 0 <= low <= high and high > 0"
    except (TypeError, ValueError):
        problem = "`bounds` must be two finite numbers (low, high)"
    if problem:
        raise ValueError(f"{problem}, for example (1.0, 2.0). Received: bounds={bounds!r}")
    return float(low), float(high)
