"""A model that is a single chain of layers, as blocks of a layer with a kernel and what follows."""

import dataclasses

import keras

from keras_grapes.wiring import Site

__all__ = []


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """A layer with a kernel and the steps that follow it up to the next one.

    Attributes:
        site: The `keras_grapes.wiring.Site`.
        local: Tuple of the steps that follow, up to the last that changes values: activation,
            normalization, dropout, and what moves values ahead of these.
        moving: Tuple of the steps after these that only move values: pooling, `Flatten`.
    """

    site: Site
    local: tuple
    moving: tuple

    @property
    def output(self):
        """The slot behind the last step that changes values."""
        return self.local[-1].outputs[0] if self.local else self.site.output


class Chain:
    """A model as a chain of blocks.

    Args:
        wiring: The `keras_grapes.wiring.Wiring` of a model.

    Attributes:
        entry: Tuple of the steps ahead of the first layer with a kernel.
        blocks: Tuple of the `Block`s, that of the output layer last.

    Raises:
        ValueError: If the model is not a chain, or has a mask on its way.
    """

    def __init__(self, wiring):
        self._name = wiring.name
        program, steps = wiring.program, wiring.program.steps
        for side, slots in (("input", program.inputs), ("output", program.outputs)):
            if len(slots) != 1:
                raise ValueError(
                    f"{self._problem()} with {len(slots)} {side}s. Give it one {side}."
                )
        places = [place for place, step in enumerate(steps) if wiring.site_of(step)]
        self.entry = tuple(steps[: places[0]])
        before = steps[places[0]].inputs[0]
        for step in steps[places[0] :]:
            if step.inputs != [before] or len(step.outputs) != 1:
                raise ValueError(
                    f"{self._problem()} whose branches meet in, or leave from, "
                    f"'{step.operation.name}' of type {type(step.operation).__name__}. Train a "
                    "model without skips and branches by this rule, or this model by "
                    "`keras_grapes.DirectFeedbackAlignment`; a mask that Keras hands to a layer "
                    "is a branch too."
                )
            before = step.outputs[0]
        for site in wiring.sites:
            if len(wiring.calls_of(site.layer)) > 1:
                raise ValueError(
                    f"{self._problem()} that calls layer '{site.layer.name}' more than once. Use a "
                    "layer of its own at each place."
                )
        self._check_masks(wiring)
        self.blocks = tuple(
            _make_block(wiring, steps[place], steps[place + 1 : end])
            for place, end in zip(places, [*places[1:], len(steps)])
        )

    def _problem(self):
        return f"`{self._name}` takes a model that is a single chain of layers. Received: a model"

    def _check_masks(self, wiring):
        """Refuses a mask that Keras would hand on through a layer with a kernel."""
        mask = source = None
        for step in wiring.program.steps:
            layer = step.operation
            if not getattr(layer, "supports_masking", False):
                mask = None
                continue
            if mask is None:
                source = layer
            elif wiring.site_of(step):
                raise ValueError(
                    f"`{self._name}` cannot carry the mask of layer '{source.name}' of type "
                    f"{type(source).__name__} through layer '{layer.name}' of type "
                    f"{type(layer).__name__}. Leave the mask out (of an `Embedding` with "
                    "`mask_zero=False`) and weight the time steps by `sample_weight`, or end it "
                    "ahead of that layer, as `GlobalAveragePooling1D` does."
                )
            slot = step.inputs[0]
            mask = layer.compute_mask(keras.KerasTensor(slot.shape, slot.dtype), mask)


def _make_block(wiring, first, following):
    changing = [place for place, step in enumerate(following) if not wiring.moves(step)]
    end = changing[-1] + 1 if changing else 0
    return Block(wiring.site_of(first), tuple(following[:end]), tuple(following[end:]))
