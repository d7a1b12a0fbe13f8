"""Runs a model and looks at what goes into its layers."""

import contextlib
import inspect

import keras
from keras import ops

from keras_grapes import graph, keras_hooks
from keras_grapes.layers.neuron_layer import NeuronCell
from keras_grapes.naming import distinct

__all__ = []


class Probe(keras.Model):
    """Maps the inputs of a model to what is measured at each call of some of its layers.

    It runs the model itself, so that it holds for every kind of model whose layers are called as
    layers. The model runs as it does in inference.

    Args:
        model: The model.
        measures: Dict of names to tuples of a layer and of a function of the arguments that the
            layer is called with, a dict, that returns a tensor or a dict of them, with the batch as
            the first axis. It runs ahead of the layer.

    Returns:
        Dict of names to what was measured; of a layer that is called more than once the further
        calls have names that end with `_2` and so on.
    """

    def __init__(self, model, measures):
        super().__init__(name="probe")
        self.model = model
        # A list, since Keras would make layers out of order of a dict's values.
        self._measures = [(name, *measure) for name, measure in measures.items()]

    def call(self, inputs):
        measured = {name: [] for name, _, _ in self._measures}
        with contextlib.ExitStack() as watches:
            for name, layer, measure in self._measures:
                watches.enter_context(_ahead_of(layer, measure, measured[name]))
            self.model(inputs, training=False)
        # What comes from a graph within this one, such as the body of a loop, cannot leave it.
        here = _graph(inputs)
        results = {}
        for name, calls in measured.items():
            calls = [result for result in calls if _graph(result) is here]
            if not calls:
                raise ValueError(
                    f"Layer '{name}' cannot be looked at: the model does not call it, or calls it "
                    "within a loop, as `keras.layers.TimeDistributed` does."
                )
            results[name] = calls[0]
            results.update({f"{name}_{i}": more for i, more in enumerate(calls[1:], 2)})
        return results


@contextlib.contextmanager
def _ahead_of(layer, measure, results):
    """Appends to `results` what is measured at every call of a layer."""
    call = layer.call
    signature = inspect.signature(call)

    def watched(*args, **kwargs):
        results.append(measure(signature.bind(*args, **kwargs).arguments))
        return call(*args, **kwargs)

    with keras_hooks.replaced(layer, call=watched):
        yield


def _graph(tensors):
    return getattr(keras.tree.flatten(tensors)[0], "graph", None)


class EveryStep:
    """The outputs and the states of a layer of spiking units at all time steps.

    A function of the arguments that the layer is called with, for `Probe`.
    """

    def __init__(self, layer):
        self.layer = layer
        self.loop = keras.layers.RNN(
            _WithStates(layer.cell),
            return_sequences=True,
            go_backwards=layer.go_backwards,
            zero_output_for_mask=layer.zero_output_for_mask,
        )

    def __call__(self, arguments):
        """Returns a dict: `outputs` and `state_0` and so on, `(batch, time, ..., units)`, `mask`.

        `mask`, `(batch, time)`, is 1 where a step counts.
        """
        sequences = arguments["sequences"]
        mask = arguments.get("mask")
        states = arguments.get("initial_state")
        if states is None and self.layer.stateful:
            states = [ops.convert_to_tensor(state) for state in self.layer.states]
        together = self.loop(sequences, initial_state=states, mask=mask, training=False)
        count = 1 + len(self.layer.cell.neuron.states)
        outputs, *states = ops.split(ops.cast(together, "float32"), count, axis=-1)
        ones = ops.ones(ops.shape(outputs)[:2], dtype="float32")
        mask = ones if mask is None else ops.cast(mask, "float32")
        if self.layer.go_backwards:
            mask = ops.flip(mask, axis=1)
        states = {f"state_{index}": state for index, state in enumerate(states)}
        return {"outputs": outputs, **states, "mask": mask}


class _WithStates(keras.layers.Layer):
    """Cell that puts out the output of another one and, behind it, its states."""

    def __init__(self, cell):
        super().__init__(dtype=cell.dtype_policy)
        self.cell = cell
        self.state_size = cell.state_size
        self.built = True

    def call(self, sequence, states):
        output, states = self.cell(sequence, states)
        own = [ops.cast(state, output.dtype) for state in states[1:]]
        return ops.concatenate([output, *own], axis=-1), states

    def get_initial_state(self, batch_size=None):
        return self.cell.get_initial_state(batch_size=batch_size)


def spiking_layers(model):
    """Dict of the layers of spiking units at every depth, by name; those that do not fire too."""
    layers = [model, *graph.all_layers(model)]
    return by_name([layer for layer in layers if has_units(layer)])


def has_units(layer):
    """Whether it is a loop over time of a cell of spiking units."""
    return isinstance(layer, keras.layers.RNN) and isinstance(layer.cell, NeuronCell)


def by_name(layers):
    """Dict of layers by name, by path where several have the name."""
    names = [layer.name for layer in layers]
    paths = [layer.path or layer.name for layer in layers]
    return dict(zip(distinct(names, paths), layers))
