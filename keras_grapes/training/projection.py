"""The way of an error from a layer straight to a tensor far below, by a kernel of its own."""

import dataclasses
import math

from keras import ops

__all__ = []

# Values of a kernel: 1 GiB in float32.
_LARGEST = 2**28


@dataclasses.dataclass(frozen=True)
class Projection:
    """Brings errors from one place of a model to another by a kernel `(values, outputs)`.

    Time steps and places share the kernel where both sides have the same ones: the error of each
    goes to that one. Where only one side has time steps, all of them share the kernel: errors are
    repeated over the steps, or summed. All other axes are flattened.

    Args:
        shared: Int, how many axes behind that of the batch both sides share.
        repeats: Bool, whether the error is repeated over the time steps of the target.
        sums: Bool, whether the errors of all time steps are summed.
        values: Int or `None`, values of the target that the kernel tells apart.
        outputs: Int or `None`, values of the error likewise.
    """

    shared: int
    repeats: bool
    sums: bool
    values: int | None
    outputs: int | None

    def __call__(self, error, kernel, target):
        """Returns the error at `target`, shaped as it."""
        if self.sums:
            error = ops.sum(error, axis=1)
        leading = ops.shape(error)[: 1 + self.shared]
        error = ops.reshape(error, (*leading, kernel.shape[1]))
        projected = ops.matmul(error, ops.transpose(ops.cast(kernel, error.dtype)))
        shape = ops.shape(target)
        if self.repeats:
            projected = ops.reshape(projected, (shape[0], 1, *shape[2:]))
            projected = ops.broadcast_to(projected, shape)
        return ops.cast(ops.reshape(projected, shape), target.dtype)


def projections(target, errors, timed, node_axes=1):
    """Returns the `Projection` of each of several errors to one target; they share its values.

    Args:
        target: Tuple, the shape of the target.
        errors: List of the shapes of the errors.
        timed: List of bools, whether axis 1 of the target, and of each of the errors, is time.
        node_axes: Int, how many of the last axes of the target are nodes, and no places. Defaults
            to 1.
    """
    found = [
        _matched(target, error, timed[0], one, node_axes) for error, one in zip(errors, timed[1:])
    ]
    if len({projection.values for projection in found}) > 1:
        found = [_projection(target, error) for error in errors]
    return found


def _matched(target, error, target_timed, error_timed, node_axes):
    places = target[1 : len(target) - node_axes]
    if places and _same(places, error[1:-1]):
        return _projection(target, error, shared=len(places))
    if target_timed and error_timed and _same(target[1:2], error[1:2]):
        return _projection(target, error, shared=1)
    if target_timed and not error_timed and len(error) == 2:
        return _projection(target, error, repeats=True)
    if error_timed and not target_timed and len(target) == 2:
        return _projection(target, error, sums=True)
    return _projection(target, error)


def _same(sizes, others):
    """Whether sizes are the same, as far as they are known; `Projection` fails where not."""
    same = (one == other or None in (one, other) for one, other in zip(sizes, others))
    return len(sizes) == len(others) and all(same)


def _projection(target, error, shared=0, repeats=False, sums=False):
    values = target[1 + shared + repeats :]
    outputs = error[1 + shared + sums :]
    return Projection(shared, repeats, sums, _product(values), _product(outputs))


def _product(sizes):
    return None if None in sizes else math.prod(sizes)


def check_size(rule, target, values, outputs):
    """Raises a `ValueError` that names a layer, where a kernel is of unknown or immense size.

    Args:
        rule: String, the name of the rule.
        target: Tuple of a layer and the shape of its output.
        values, outputs: Ints or `None`, the shape of the kernel.
    """
    layer, shape = target
    if values is None or outputs is None:
        raise ValueError(
            f"`{rule}` needs to know how many values layer '{layer.name}' of type "
            f"{type(layer).__name__} puts out, of shape {shape}, and how many errors come to it. "
            "Give the sizes to `keras.Input`."
        )
    if values * outputs > _LARGEST:
        size = 4 * values * outputs / 2**30
        raise ValueError(
            f"`{rule}` needs a feedback kernel of shape ({values}, {outputs}) for layer "
            f"'{layer.name}' of type {type(layer).__name__}, which puts out {shape}: "
            f"{size:.1f} GiB in float32. Places share one kernel where the output has the same "
            "places as the layer. Else pool ahead of the layer, or use "
            "`keras_grapes.FeedbackAlignment`, whose kernels have the sizes of the layers' own."
        )
