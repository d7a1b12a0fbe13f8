"""Cells and layers of any neuron: what a `keras_grapes.Neuron` needs to run over a sequence."""

import keras
from keras import ops

from keras_grapes import keras_hooks
from keras_grapes.layers.trajectory import integrate
from keras_grapes.linear import recurrent_map, register_linear_map

__all__ = []


class NeuronCell:
    """What the cells of all neurons share; mixed into a cell of Keras.

    A cell has a `neuron`. Its first state is the output, the others are those of the neuron. The
    input goes through `project`, which gives the input current, and the current with the states
    through `integrate`, which gives the outputs.
    """

    @property
    def compute_dtype(self):
        # That of the states and of all that happens to them. In half precision a slow leak would be
        # none, and a small current would not add to a large potential.
        return keras.backend.result_type(super().compute_dtype, "float32")

    @property
    def kernel_dtype(self):
        """The precision of the input current, that of the policy."""
        return super().compute_dtype

    def project(self, inputs):
        """Input current of the units, from inputs over any leading axes."""
        raise NotImplementedError

    def parameters(self):
        """The parameters of the neuron: numbers where they are constant, else tensors."""
        raise NotImplementedError

    def feedback_kernel(self):
        """Tensor `(units, units)`, from the outputs to the current of the next step, or `None`."""
        return None

    def firing_threshold(self, state):
        """What the potentials of states are compared with; `None` if that is not known.

        Args:
            state: Tuple of tensors `(..., units)`, the states of the neuron.
        """
        return self.neuron.firing_threshold(state, self.parameters())

    def _tensor(self, variable):
        # A copy: what goes through a custom gradient must not be the variable itself.
        return ops.copy(ops.convert_to_tensor(variable, dtype=self.compute_dtype))

    def advance(self, inputs, states):
        """One time step: returns the output and a list of the new states."""
        output, *state = (ops.cast(state, self.compute_dtype) for state in states)
        current = ops.cast(self.project(inputs), self.compute_dtype)
        kernel = self.feedback_kernel()
        if kernel is not None:
            current = current + ops.matmul(output, kernel)
        parameters = self.parameters()
        state = self.neuron.step(current, output, tuple(state), parameters)
        output = self.neuron.emit(state, parameters)
        # A stack of cells may keep the states in half precision.
        new = [ops.cast(after, before.dtype) for after, before in zip((output, *state), states)]
        return output, new

    def integrate(self, current, states, mask=None, compile=False):
        """Runs the units over all time steps of an input current.

        Args:
            current: Tensor `(time, batch, ..., units)`, as `project` returns it.
            states: List of the states before the first step, the output first.
            mask: Bool tensor `(time, batch)`, `False` for steps to skip. Defaults to `None`.
            compile: Bool, whether the backend may compile the loops. Defaults to `False`.

        Returns:
            Tuple of the outputs `(time, batch, ..., units)` and a list of the last states. A
            skipped step has the output of the step before it.
        """
        current = ops.cast(current, self.compute_dtype)
        output, *state = (ops.cast(state, self.compute_dtype) for state in states)
        if mask is not None:
            mask = ops.reshape(mask, (*ops.shape(mask), *[1] * (len(current.shape) - 2)))
        outputs, state = integrate(
            self.neuron,
            current,
            output,
            tuple(state),
            self.parameters(),
            self.feedback_kernel(),
            mask,
            compile,
        )
        return outputs, [outputs[-1], *state]


class NeuronLayer(keras.layers.RNN):
    """A layer of neurons over a sequence, whose cell is a `NeuronCell`."""

    def __init__(self, cell, **kwargs):
        super().__init__(cell, **kwargs)
        # In half precision Keras would round the states that come in,
        self.autocast = False

    def build(self, sequences_shape, initial_state_shape=None):
        super().build(sequences_shape, initial_state_shape)
        if self.stateful:
            # and those that it keeps, which no argument tells it.
            for state in self.states:
                keras_hooks.keep_precision(state)

    def call(self, sequences, initial_state=None, mask=None, training=False):
        # As in `keras.layers.RNN`, but for the states, which keep their precision.
        cell = self.cell
        sequences = ops.cast(sequences, self.compute_dtype)
        if sequences.shape[1] == 0:
            raise ValueError(
                f"Layer '{self.name}' needs one time step at least. Received: sequences of shape "
                f"{tuple(sequences.shape)}"
            )
        if self.unroll and sequences.shape[1] is None:
            raise ValueError(
                f"Layer '{self.name}' can only be unrolled over a known number of time steps. "
                f"Received: sequences of shape {tuple(sequences.shape)}. Name the number in "
                "`keras.Input`, or use unroll=False."
            )
        states = initial_state
        if states is not None:
            self._check_initial_state(states, sequences)
        else:
            states = self.states
        if states is None:
            states = self.get_initial_state(batch_size=ops.shape(sequences)[0])
        self._check_batch(sequences)
        if mask is not None and not _fits(mask.shape, sequences.shape[:2], broadcasts=True):
            raise ValueError(
                f"`mask` of layer '{self.name}' must be of shape (batch, time). Received: mask of "
                f"shape {tuple(mask.shape)} for sequences of shape {tuple(sequences.shape)}"
            )
        states = [ops.convert_to_tensor(state, dtype=cell.compute_dtype) for state in states]
        last, outputs, states = self.inner_loop(
            sequences=sequences, initial_state=states, mask=mask, training=training
        )
        if hasattr(cell, "reset_dropout_mask"):
            cell.reset_dropout_mask()
        if self.stateful:
            for variable, state in zip(self.states, states, strict=True):
                variable.assign(state)
        output = ops.cast(outputs if self.return_sequences else last, self.compute_dtype)
        return (output, *states) if self.return_state else output

    def _check_initial_state(self, states, sequences):
        batch = sequences.shape[0]
        shapes = [(batch, *s.shape[1:]) for s in self.get_initial_state(batch_size=1)]
        received = [tuple(state.shape) for state in states]
        if len(received) != len(shapes) or not all(map(_fits, received, shapes)):
            names = ", ".join(("output", *self.cell.neuron.states))
            raise ValueError(
                f"`initial_state` of layer '{self.name}' must be a list of {len(shapes)} tensors, "
                f"{names}, of shapes {shapes}. Received: initial_state of shapes {received}"
            )

    def _check_batch(self, sequences):
        if not self.stateful:
            return
        expected, batch = self.states[0].shape[0], sequences.shape[0]
        if batch is not None and batch != expected:
            raise ValueError(
                f"Layer '{self.name}' keeps its states from batch to batch, so every batch must "
                f"have {expected} samples. Received: a batch of {batch}"
            )

    def inner_loop(self, sequences, initial_state, mask, training=False):
        cell = self.cell
        dropout_mask = None
        if training and getattr(cell, "dropout", 0) > 0:
            # One mask for all time steps, made outside of a loop.
            dropout_mask = cell.get_dropout_mask(sequences[:, 0])
        if self.unroll or not cell.neuron.goes_unit_by_unit:
            return super().inner_loop(sequences, initial_state, mask, training=training)
        if dropout_mask is not None:
            sequences = sequences * dropout_mask[:, None]
        # Of two layers in a row one undoes the transposition of the other.
        current = cell.project(_swap_time(sequences))
        if mask is not None:
            mask = _swap_time(ops.cast(mask, "bool"))
        if self.go_backwards:
            current = ops.flip(current, axis=0)
            mask = None if mask is None else ops.flip(mask, axis=0)
        # Not in inference, whose graphs others are to run, TensorFlow Serving and TFLite.
        outputs, states = cell.integrate(current, initial_state, mask, compile=bool(training))
        if mask is not None:
            # Before the first step that is not masked Keras puts out 0, whatever the state.
            seen = mask if self.zero_output_for_mask else ops.cumsum(ops.cast(mask, "int32"), 0) > 0
            seen = ops.reshape(seen, (*ops.shape(seen), *[1] * (len(outputs.shape) - 2)))
            outputs = ops.where(seen, outputs, ops.zeros_like(outputs))
        return outputs[-1], _swap_time(outputs), states

    def compute_output_spec(self, sequences, initial_state=None, mask=None, training=False):
        spec = super().compute_output_spec(sequences, initial_state, mask, training)
        if not self.return_state:
            return spec
        output, *states = spec
        dtype = self.cell.compute_dtype
        return (output, *(keras.KerasTensor(state.shape, dtype) for state in states))


register_linear_map(NeuronLayer)(recurrent_map)


def _fits(shape, expected, broadcasts=False):
    """Whether a shape is another, as far as both are known."""
    return len(shape) == len(expected) and all(
        size is None or wanted in (size, None) or (broadcasts and size == 1)
        for size, wanted in zip(shape, expected)
    )


def _swap_time(tensor):
    """From the batch as the first axis to time, or back."""
    return ops.transpose(tensor, (1, 0, *range(2, len(tensor.shape))))
