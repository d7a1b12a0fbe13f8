"""The way of a neuron through time, and of its errors back: the one loop for all neurons.

All tensors have time as the first axis. One time step is little work, and to start an operation
costs as much as the operation itself. So the loop takes a block of steps at once: what depends on
the step before is written out step by step, and all else is one operation for the block.
"""

import dataclasses
import functools
import math

import keras
from keras import ops

from keras_grapes import backend
from keras_grapes.layers.neuron import Linearization, Moment, Neuron, is_tensor
from keras_grapes.layers.surrogate import values_alone

__all__ = []

# Time steps of a block, where the length allows it. More of them take longer to trace.
BLOCK = 5

# Numbers of a sample, time steps times units, from which on compiling pays within some hundred
# steps of training. A measured guess for batches of 16 to 64.
COMPILED_FROM = 4096


def integrate(
    neuron, current, output, state, parameters, recurrent_kernel=None, mask=None, compile=False
):
    """Runs a neuron over all time steps, with a backward pass that goes through time once.

    A masked step keeps output and state as they are.

    Args:
        neuron: The `Neuron`.
        current: Tensor `(time, batch, ..., units)`, the input current.
        output: Tensor `(batch, ..., units)`, the output before the first step.
        state: Tuple of tensors like `output`, the state before the first step.
        parameters: Tuple of numbers, and of tensors that broadcast over `output`.
        recurrent_kernel: Tensor `(units, units)`, from the output before to the input current.
            Defaults to `None`.
        mask: Bool tensor `(time, batch, ...)` that broadcasts over `current`; `False` stands for
            a masked step. Defaults to `None`.
        compile: Bool, whether the backend may compile the loops, which takes some tenths of a
            second for each shape of a batch. It does so where the number of steps is known, samples
            are not small, and the neuron allows it. Defaults to `False`.

    Returns:
        Tuple of the outputs of all steps, shaped as `current`, and of the last state, a tuple.
    """
    length = ops.shape(current)[0]
    compile = compile and neuron.compiles and _is_large(current) and backend.can_compile()
    segments = _segments(length, 1 if compile or backend.is_compiled() else BLOCK)
    learned = [p for p in parameters if is_tensor(p)]
    kernels = [] if recurrent_kernel is None else [recurrent_kernel]

    def way_of(learned, kernels):
        learned = list(learned)
        given = tuple(learned.pop(0) if is_tensor(p) else p for p in parameters)
        return _Way(neuron, given, *kernels)

    def forward(current, moving, learned, kernels):
        return way_of(learned, kernels).forward(segments, current, mask, moving)

    def values_of_forward(*inputs):
        with values_alone():
            return forward(*inputs)

    def retreat(current, records, output_errors, last_errors, learned, kernels):
        traces = [
            _Trace(segment, segment.cut(current), None if mask is None else segment.cut(mask), r)
            for segment, r in zip(segments, records)
        ]
        return way_of(learned, kernels).backward(traces, output_errors, last_errors)

    go, go_back = values_of_forward, retreat
    if compile:
        go = backend.compiled(go)
        go_back = backend.differentiated_as(retreat, backend.compiled(retreat))

    # The backend takes tensors by position alone.
    @functools.partial(backend.custom_gradient, once=True)
    def run(*inputs):
        current, moving, *constant = keras.tree.pack_sequence_as(structure, inputs)
        (_, *last), records = backend.differentiated_as(forward, go)(current, moving, *constant)
        outputs = _concatenate([record[0][1:] for record in records])

        def backward(output_errors, *last_errors):
            again = backend.lacks_derivatives_of_forward()
            held = forward(current, moving, *constant)[1] if again else records
            drive_errors, *errors = go_back(current, held, output_errors, last_errors, *constant)
            if recurrent_kernel is not None:
                before = _concatenate([record[0][:-1] for record in held])
                errors.append(_outer(before, drive_errors))
            return (drive_errors, *keras.tree.flatten(errors))

        return (outputs, *last), backward

    structure = (current, [output, *state], learned, kernels)
    outputs, *last = run(*keras.tree.flatten(structure))
    return outputs, tuple(last)


def _is_large(current):
    """Whether the samples of a tensor are known to be worth a compilation."""
    sizes = (current.shape[0], *current.shape[2:])
    return None not in sizes and math.prod(sizes) >= COMPILED_FROM


@dataclasses.dataclass(frozen=True)
class _Segment:
    """A stretch of time: `blocks` blocks of `steps` steps each. It starts at the step `start`."""

    start: object
    steps: int
    blocks: object

    def cut(self, tensor):
        """The blocks of this stretch of a whole sequence: `(blocks, steps, ...)`."""
        return self.blocked(tensor[self.start : self.start + self.blocks * self.steps])

    def blocked(self, stretch):
        return ops.reshape(stretch, (self.blocks, self.steps, *ops.shape(stretch)[1:]))

    def loop(self, step, state, record, backward=False):
        """Runs a function of (block number, state) over the blocks, as `loop_over_time` does."""
        range_ = (self.blocks - 1, self.blocks, -1) if backward else (0, self.blocks, 1)
        return backend.loop_over_time(step, state, range_, record, self.steps)


def _segments(length, block):
    """Divides a length of time, an int or a tensor, into stretches of blocks."""
    if not isinstance(length, int):
        # Blocks and a rest, in which any length ends, would take twice as long to trace.
        return [_Segment(0, 1, length)]
    # Better blocks of another size than a rest.
    sizes = [size for size in range(block // 2 + 1, 2 * block) if length % size == 0]
    steps = min(sizes, key=lambda size: abs(size - block), default=min(block, length))
    blocks, rest = divmod(length, steps)
    return [_Segment(0, steps, blocks)] + [_Segment(length - rest, rest, 1)] * (rest > 0)


@dataclasses.dataclass(frozen=True)
class _Trace:
    """What the forward pass leaves of a segment for the backward pass.

    The input current and the mask are `(blocks, steps, ...)`. The records, of the output and of
    each state, are `(time + 1, ...)`: they begin with what was there before the first step.
    """

    segment: _Segment
    current: object
    mask: object
    records: list

    def at(self, block):
        """Lists of what output and states are before and after each step of a block."""
        # One by one, as the length of a slice from a place that is a tensor is not known.
        places = [block * self.segment.steps + step for step in range(self.segment.steps + 1)]
        moments = [ops.stack([record[place] for place in places]) for record in self.records]
        return [m[:-1] for m in moments], [m[1:] for m in moments]


@dataclasses.dataclass(frozen=True)
class _Way:
    """A neuron with its parameters on its way through time."""

    neuron: Neuron
    parameters: tuple
    kernel: object = None

    def forward(self, segments, current, mask, moving):
        """Returns the last output and state, a list, and the records of each segment."""
        # Operations on tensors of one shape are the fastest.
        shape = ops.shape(moving[0])
        parameters = tuple(
            ops.broadcast_to(p, shape) if is_tensor(p) and len(p.shape) else p
            for p in self.parameters
        )
        all_records = []
        for segment in segments:
            drives = segment.cut(current)
            masks = None if mask is None else segment.cut(mask)

            def advance(block, moving, drives=drives, masks=masks):
                steps = ops.unstack(drives[block])
                live = [None] * len(steps) if masks is None else ops.unstack(masks[block])
                passed = []
                for drive, is_live in zip(steps, live):
                    moving = self._step(drive, is_live, moving, parameters)
                    passed.append(moving)
                return moving, list(zip(*passed))

            moving, records = segment.loop(advance, moving, moving)
            all_records.append(records)
        return moving, all_records

    def _step(self, drive, is_live, moving, parameters):
        output, *state = moving
        if self.kernel is not None:
            drive = drive + ops.matmul(output, self.kernel)
        new = self.neuron.step(drive, output, tuple(state), parameters)
        stepped = [self.neuron.emit(new, parameters), *new]
        if is_live is None:
            return stepped
        return [ops.where(is_live, after, before) for after, before in zip(stepped, moving)]

    def backward(self, traces, output_errors, last_errors):
        """Returns the errors of the current, and of first output, first state and parameters."""
        none = ops.zeros_like(output_errors[0])
        learned = [p for p in self.parameters if is_tensor(p)]
        moving = [none, *last_errors, *(ops.zeros_like(p) for p in learned)]
        parts = []
        for trace in reversed(traces):
            errors = trace.segment.cut(output_errors)

            def retreat(block, moving, trace=trace, errors=errors):
                return self._retreat(trace, block, errors[block], moving)

            moving, (drive_errors,) = trace.segment.loop(retreat, moving, [none], backward=True)
            parts.insert(0, drive_errors[1:])
        return _concatenate(parts), moving

    def _retreat(self, trace, block, errors, moving):
        """Takes the errors of a block of steps back to the step before it."""
        count = len(trace.records) - 1
        output_error, state_errors, sums = moving[0], moving[1 : count + 1], moving[count + 1 :]
        (before, *before_states), (outputs, *states) = trace.at(block)

        def drive():
            drive = trace.current[block]
            return drive if self.kernel is None else drive + ops.matmul(before, self.kernel)

        moment = Moment(drive, before, tuple(before_states), outputs, tuple(states))
        slopes = self.neuron.linearize(moment, self.parameters)
        held = None
        if trace.mask is not None:
            slopes, held = _masked(slopes, trace.mask[block], outputs)
        outer, by_current, by_output, emission = (
            [_by_step(slope, outputs) for slope in each]
            for each in (slopes.outer, slopes.by_current, slopes.by_output, slopes.emission)
        )
        by_state = [[_by_step(slope, outputs) for slope in row] for row in slopes.by_state]
        held = _by_step(held, outputs)
        errors = ops.unstack(errors)
        output_errors, inner_errors, drive_errors = [], [], []
        for step in reversed(range(len(errors))):
            output_error = errors[step] + output_error
            state_errors = [
                _sum([error, _product(emission[j][step], output_error)])
                for j, error in enumerate(state_errors)
            ]
            inner = [_product(outer[i][step], e) for i, e in enumerate(state_errors)]
            drive_error = _sum(
                [_product(by_current[i][step], e) for i, e in enumerate(inner)],
                otherwise=output_error,
            )
            output_errors.append(output_error)
            inner_errors.append(inner)
            drive_errors.append(drive_error)
            sent = [_product(by_output[i][step], e) for i, e in enumerate(inner)]
            if self.kernel is not None:
                sent.append(ops.matmul(drive_error, ops.transpose(self.kernel)))
            sent.append(_product(held[step], output_error))
            output_error = _sum(sent, otherwise=output_error)
            state_errors = [
                _sum(
                    [_product(by_state[i][j][step], e) for i, e in enumerate(inner)],
                    otherwise=output_error,
                )
                for j in range(count)
            ]
        if sums:
            output_errors = ops.stack(output_errors[::-1])
            inner_errors = tuple(ops.stack(e[::-1]) for e in zip(*inner_errors))
            added = slopes.parameter_errors(inner_errors, output_errors)
            sums = [s + a for s, a in zip(sums, (a for a in added if a is not None), strict=True)]
        return [output_error, *state_errors, *sums], [drive_errors[::-1]]


def _masked(slopes, live, outputs):
    """The derivatives where a masked step keeps what is, and that of the output by the one before.

    What a masked step would have done must not matter, not even where it is not a number.
    """
    zeros = ops.zeros_like(outputs)
    ones = ops.ones_like(outputs)

    def masked(slope, otherwise=zeros):
        if slope is None:
            slope = zeros
        return ops.where(live, slope, otherwise)

    def parameter_errors(inner_errors, output_error):
        return slopes.parameter_errors(tuple(masked(e) for e in inner_errors), masked(output_error))

    by_state = tuple(
        tuple(masked(slope, ones if i == j else zeros) for j, slope in enumerate(row))
        for i, row in enumerate(slopes.by_state)
    )
    masked_slopes = Linearization(
        outer=tuple(masked(slope, ones) for slope in slopes.outer),
        by_current=tuple(map(masked, slopes.by_current)),
        by_output=tuple(map(masked, slopes.by_output)),
        by_state=by_state,
        emission=tuple(map(masked, slopes.emission)),
        parameter_errors=parameter_errors,
    )
    return masked_slopes, ops.where(live, zeros, ones)


def _by_step(slope, outputs):
    """A list of the derivatives of each step of a block."""
    if is_tensor(slope) and slope is not None and len(slope.shape) == len(outputs.shape):
        return ops.unstack(slope)
    return [slope] * outputs.shape[0]


def _product(slope, error):
    if slope is None:
        return None
    return error if isinstance(slope, (int, float)) and slope == 1 else slope * error


def _sum(errors, otherwise=None):
    """The sum of errors, some of which may be `None`; zeros like `otherwise` if all are."""
    errors = [error for error in errors if error is not None]
    if not errors:
        return ops.zeros_like(otherwise)
    result = errors[0]
    for error in errors[1:]:
        result = result + error
    return result


def _concatenate(parts):
    return parts[0] if len(parts) == 1 else ops.concatenate(parts)


def _outer(before, errors):
    units = errors.shape[-1]
    before, errors = (ops.reshape(tensor, (-1, units)) for tensor in (before, errors))
    return ops.matmul(ops.transpose(before), errors)
