"""The importance of a node by the weights that leave it (Eq. 6 of the paper)."""

import keras
import numpy as np
from keras import ops

from keras_grapes import backend
from keras_grapes.modulation import node_importance

__all__ = []

# A size for axes that are not known, more than any pooling window.
_ANY_SIZE = 64

# Operations that mix their inputs, whatever the shapes say.
_MIXING = ("Matmul", "Dot", "Einsum", "Tensordot", "Attention", "AdditiveAttention", "Softmax2D")

# Plain operations that move values.
_MOVING = (
    "Concatenate",
    "ExpandDims",
    "Flip",
    "GetItem",
    "Moveaxis",
    "Pad",
    "Ravel",
    "Repeat",
    "Reshape",
    "Split",
    "Squeeze",
    "Stack",
    "Swapaxes",
    "Transpose",
)


class Leaving:
    """The weights that leave the nodes of a hidden layer, found from the graph.

    Which node stands where in the input of a layer above is told by labels: numbers of nodes in
    place of values, taken along the graph up to the next layers with kernels. Layers that move
    values are run on the labels; where these come out as no label, nodes have been mixed.

    Args:
        wiring: The `keras_grapes.wiring.Wiring`.
        layer: The hidden layer.
        rule: String, the name of the class that asks, for the errors.

    Raises:
        ValueError: If the steps between the layer and the next ones mix the nodes.
    """

    def __init__(self, wiring, layer, rule):
        self._wiring, self._layer, self._rule = wiring, layer, rule
        self._group = wiring.calls_of(layer)[0].group
        self._count = int(np.prod(self._group.node_shape))
        # Kernel of a layer above, its axes to sum over, and the node of each of its inputs.
        self._leaving = []
        for site in wiring.calls_of(layer):
            self._follow(site)

    def factor(self, modulation):
        """Returns the factors of the nodes now, shaped as `Group.node_shape`."""
        if len(self._leaving) == 1 and self._leaving[0].places:
            only = self._leaving[0]
            kernel = ops.reshape(only.kernel_by_input(), (only.places, self._count, -1))
            factor = modulation(kernel, incoming_axes=(0, 2))
        else:
            total = ops.zeros((self._count,), "float32")
            for one in self._leaving:
                total = ops.add(total, one.importance(self._count))
            factor = modulation(total[None], incoming_axes=0)
        return ops.reshape(factor, self._group.node_shape)

    def _follow(self, site):
        labels = {site.output: self._first_labels(site)}
        for step in self._wiring.program.steps:
            if step is site.step or not any(slot in labels for slot in step.inputs):
                continue
            above = self._wiring.site_of(step)
            if above is None:
                labels.update(self._carry(step, labels))
            elif above.input in labels:
                self._leaving.append(self._enter(above, labels[above.input]))

    def _first_labels(self, site):
        labels = np.arange(1, self._count + 1).reshape(self._group.node_shape)
        with backend.eagerly():
            aligned = self._group.over_output(ops.convert_to_tensor(labels), _known(site.output))
            aligned = ops.convert_to_numpy(aligned)
        return np.broadcast_to(aligned, _known(site.output))

    def _carry(self, step, labels):
        """Labels of the outputs of a step that is no site."""
        name = type(step.operation).__name__
        if name in _MIXING:
            raise ValueError(self._refusal(step.operation, "it mixes the nodes"))
        slots = [slot for slot in step.inputs if slot in labels]
        shapes = {slot.shape[1:] for slot in step.outputs}
        moves = self._wiring.moves(step) or name in _MOVING or name == "Concatenate"
        if not moves:
            if all(_fits(slot.shape[1:], shape) for slot in slots for shape in shapes):
                merged = self._merged(step, [labels[slot] for slot in slots])
                return {
                    slot: np.broadcast_to(merged, np.broadcast_shapes(merged.shape, _known(slot)))
                    for slot in step.outputs
                }
            (first, *others) = slots
            channels = labels[first].reshape(-1, labels[first].shape[-1])
            (out, *more) = step.outputs
            if not (others or more) and (channels == channels[0]).all():
                if out.shape[-1] == channels.shape[1]:
                    return {out: np.broadcast_to(channels[0], _known(out))}
        return self._run(step, labels)

    def _merged(self, step, arrays):
        """Where several tensors meet, value by value."""
        merged = arrays[0]
        for array in arrays[1:]:
            merged, array = np.broadcast_arrays(merged, array)
            if ((merged != array) & (merged > 0) & (array > 0)).any():
                raise ValueError(self._refusal(step.operation, "different nodes meet in it"))
            merged = np.maximum(merged, array)
        return merged

    def _run(self, step, labels):
        """Runs a step on the labels, and on other numbers, to see that it moves them alone."""
        random = np.random.default_rng(0).uniform(1, 2, self._count + 1)
        random[0] = 0
        results = []
        for table in (np.arange(self._count + 1), random):
            values = {slot: table[array].astype("float32") for slot, array in labels.items()}
            for slot in step.inputs:
                if slot not in values:
                    # No node; a mask that masks nothing.
                    values[slot] = np.full(_known(slot), slot.dtype == "bool", slot.dtype)
            with backend.eagerly():
                tensors = {slot: ops.convert_to_tensor(value) for slot, value in values.items()}
                try:
                    args, kwargs = step.arguments(tensors)
                    outputs = keras.tree.flatten(step.operation(*args, **kwargs))
                except Exception as error:
                    raise ValueError(
                        self._refusal(step.operation, "nodes cannot be followed through it")
                    ) from error
            results.append([ops.convert_to_numpy(output) for output in outputs])
        found = {}
        for slot, label, value in zip(step.outputs, *results):
            whole = np.clip(np.rint(label), 0, self._count).astype(int)
            same = np.allclose(label, whole, atol=1e-3)
            if not (same and np.allclose(value, random[whole], rtol=1e-4)):
                raise ValueError(
                    self._refusal(
                        step.operation, "it mixes the nodes. Put the nodes on the last axis"
                    )
                )
            found[slot] = whole
        return found

    def _enter(self, site, labels):
        """How the labels meet the kernel of a layer above."""
        linear = site.linear
        rank = len(labels.shape)
        axes = [axis % rank for axis in linear.input_axes]
        kernel = linear.kernels[0]
        kernel_axes = [axis % len(kernel.shape) for axis in linear.kernel_axes]
        if [kernel.shape[a] for a in kernel_axes] != [labels.shape[a] for a in axes]:
            raise ValueError(self._refusal(site.layer, "its channels form `groups`. Use groups=1"))
        others = [axis for axis in range(rank) if axis not in axes]
        size = int(np.prod([labels.shape[axis] for axis in axes]))
        by_input = labels.transpose([*others, *axes]).reshape(-1, size)
        return _Leaving(kernel, kernel_axes, by_input)

    def _refusal(self, operation, reason):
        return (
            f"`{self._rule}` with a `modulation` cannot tell which weights leave the nodes of "
            f"layer '{self._layer.name}': between it and the next layer with a kernel stands "
            f"'{operation.name}' of type {type(operation).__name__}: {reason}, or modulation=None."
        )


class _Leaving:
    """A kernel that nodes are handed to.

    Args:
        kernel: The variable.
        input_axes: List of its axes that belong to its inputs.
        labels: Array `(places, inputs)` of the nodes there, counted from 1; 0 is none.
    """

    def __init__(self, kernel, input_axes, labels):
        self.kernel = kernel
        self.input_axes = input_axes
        inputs = labels.shape[1]
        pairs = np.unique(
            np.stack([labels, np.broadcast_to(np.arange(inputs), labels.shape)], -1).reshape(-1, 2),
            axis=0,
        )
        self.nodes, self.inputs = pairs[pairs[:, 0] > 0].T
        self.nodes = self.nodes - 1
        # How often the nodes are repeated over the inputs, in order; 0 for any other order.
        count = self.nodes.max(initial=0) + 1
        order = np.argsort(self.inputs, kind="stable")
        repeated = np.tile(np.arange(count), inputs // count)
        regular = np.array_equal(self.inputs[order], np.arange(inputs))
        self.places = (
            inputs // count if regular and np.array_equal(self.nodes[order], repeated) else 0
        )

    def kernel_by_input(self):
        """The kernel as `(inputs, all else)`."""
        rank = len(self.kernel.shape)
        others = [axis for axis in range(rank) if axis not in self.input_axes]
        kernel = ops.convert_to_tensor(self.kernel)
        if self.input_axes[0] != 0 or len(self.input_axes) > 1:
            kernel = ops.transpose(kernel, [*self.input_axes, *others])
        size = int(np.prod([self.kernel.shape[axis] for axis in self.input_axes]))
        return ops.reshape(kernel, (size, -1))

    def importance(self, count):
        """Sum of the absolute weights that leave each of `count` nodes."""
        others = tuple(a for a in range(len(self.kernel.shape)) if a not in self.input_axes)
        leaving = ops.reshape(node_importance(self.kernel, others), (-1,))
        leaving = ops.take(leaving, self.inputs)
        return ops.segment_sum(leaving, self.nodes, num_segments=count)


def _fits(shape, target):
    """Whether values of a shape broadcast to another, the batch left out."""
    if len(shape) > len(target):
        return False
    ahead = target[len(target) - len(shape) :]
    return all(a in (1, b) for a, b in zip(shape, ahead))


def _known(slot):
    """The shape of a slot for one example, with a size for every axis."""
    return (1, *(_ANY_SIZE if size is None else size for size in slot.shape[1:]))
