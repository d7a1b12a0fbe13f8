"""Nodes whose importances are compared with each other, and the kernels that feed them."""

import dataclasses

import keras

from keras_grapes import backend
from keras_grapes.kernels import current, stored_variable
from keras_grapes.modulation import normalize_axes

__all__ = ["Group"]


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Nodes of a layer and the kernels that feed them.

    Args:
        kernels: A variable, or a list of variables that feed the same nodes. Their sums of
            absolute weights are added. Of a layer that is quantized or has LoRA adapters, the
            kernel that it computes.
        incoming_axes: Int or tuple of ints, the axes of each kernel to sum over; the remaining
            axes are the nodes. A list gives one entry per kernel. `None` stands for all axes but
            the last. Defaults to `None`.
        output_axis: Int or tuple of ints, the axis of the layer's output along which the nodes lie
            (a tuple when the nodes have several axes there); several node axes on one output axis
            are flattened. `None` when the nodes are not the channels of the output, as the gates
            of an LSTM. Defaults to `-1`.
        feeds_output: Bool, whether the error at the layer's output reaches these nodes without
            passing through another kernel of the layer. Defaults to `True`.
        guessed: Bool, whether the grouping is a guess from the shape. Defaults to `False`.

    Raises:
        ValueError: If there is no kernel, or `incoming_axes` does not fit the kernels.
    """

    kernels: tuple
    incoming_axes: int | tuple | list | None = None
    output_axis: int | tuple | None = -1
    feeds_output: bool = True
    guessed: bool = False

    def __post_init__(self):
        kernels = self.kernels if isinstance(self.kernels, (list, tuple)) else (self.kernels,)
        axes = self.incoming_axes
        axes = axes if isinstance(axes, list) else [axes] * len(kernels)
        if not kernels:
            raise ValueError(
                "A `Group` needs a kernel. Received: kernels=[]. A layer without nodes has no "
                "group: return an empty list from the function that you register."
            )
        if len(axes) != len(kernels):
            raise ValueError(
                "`incoming_axes` of a `Group` must have one entry per kernel. Received: "
                f"{len(axes)} entries for {len(kernels)} kernels"
            )
        axes = [normalize_axes(a, len(k.shape)) for a, k in zip(axes, kernels)]
        object.__setattr__(self, "kernels", tuple(kernels))
        object.__setattr__(self, "incoming_axes", axes)

    @property
    def node_shape(self):
        """Shape of the nodes, `(units,)` in the common case."""
        kernel, axes = self.kernels[0], self.incoming_axes[0]
        return tuple(size for axis, size in enumerate(kernel.shape) if axis not in axes)

    @property
    def variables(self):
        """Tuple of the variables that stand for the kernels, of a computed one that of its base."""
        return tuple(stored_variable(kernel) for kernel in self.kernels)

    @property
    def keys(self):
        """Tuple of the `backend.variable_key`s of the `variables`: what identifies the kernels."""
        return tuple(backend.variable_key(variable) for variable in self.variables)

    def inner(self):
        """Returns the same group as one whose nodes are not those of the layer's output."""
        return dataclasses.replace(self, output_axis=None, feeds_output=False)

    def factor(self, modulation):
        """Returns the factors of the nodes now, shaped as `node_shape`."""
        return modulation([current(kernel) for kernel in self.kernels], self.incoming_axes)

    def over_kernel(self, factor, index):
        """Reshapes `factor` so that it broadcasts over the kernel at `index`."""
        incoming = self.incoming_axes[index]
        if incoming == tuple(range(len(incoming))):
            return factor  # The nodes are the last axes.
        shape = [1 if a in incoming else n for a, n in enumerate(self.kernels[index].shape)]
        return keras.ops.reshape(factor, shape)

    def over_output(self, factor, output_shape):
        """Reshapes `factor` so that it broadcasts over the layer's output.

        Raises:
            ValueError: If the nodes do not lie along `output_axis` of an output of this shape.
        """
        rank = len(output_shape)
        axes = self.output_axis if isinstance(self.output_axis, tuple) else (self.output_axis,)
        node_shape = self.node_shape
        if len(axes) == 1 and len(node_shape) > 1:
            factor = keras.ops.reshape(factor, (-1,))
            node_shape = tuple(factor.shape)
        fits = len(axes) == len(node_shape) and all(
            -rank <= axis < rank and output_shape[axis] in (size, None)
            for axis, size in zip(axes, node_shape)
        )
        if not fits:
            raise ValueError(
                f"the nodes of the group, of shape {node_shape}, are not axis {self.output_axis} "
                f"of an output of shape {tuple(output_shape)}"
            )
        if tuple(axis % rank for axis in axes) == tuple(range(rank - len(axes), rank)):
            return factor  # The nodes are the last axes.
        size_of = dict(zip((axis % rank for axis in axes), node_shape))
        order = sorted(range(len(axes)), key=lambda i: axes[i] % rank)
        factor = keras.ops.transpose(factor, order)
        return keras.ops.reshape(factor, [size_of.get(axis, 1) for axis in range(rank)])
