"""What the direct rules share: a kernel of its own for every tensor that receives an error."""

import dataclasses
import typing

from keras_grapes.training.feedback import FeedbackModel
from keras_grapes.training.presynaptic import Leaving
from keras_grapes.training.projection import check_size, projections

__all__ = []


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Where errors, or what stands in for them, come from.

    Attributes:
        key: The output site, or the index of the model's output.
        shape: Tuple, the shape of the errors.
        over_time: Bool, whether their axis 1 is time.
        sites: List of the output sites that it belongs to.
    """

    key: typing.Any
    shape: tuple
    over_time: bool
    sites: list


class Target:
    """A tensor that receives errors directly.

    Attributes:
        slot: Its `keras_grapes.graph.Slot`.
        index: Int, the place of its kernel among the feedback kernels.
        shape: Tuple, the shape of its kernel.
        projections: Dict of the key of each source to its `Projection` and the columns of the
            kernel that belong to it.
    """

    def __init__(self, slot, index, sources, found):
        self.slot = slot
        self.index = index
        self.projections = {}
        start = 0
        for source, projection in zip(sources, found):
            end = start + projection.outputs
            self.projections[source.key] = projection, slice(start, end)
            start = end
        self.shape = (found[0].values, start)

    def project(self, key, error, kernel, tensor):
        """Returns the error that comes to `tensor`, the target's, from a source."""
        projection, columns = self.projections[key]
        if len(self.projections) > 1:
            kernel = kernel[:, columns]
        return projection(error, kernel, tensor)


class DirectFeedback(FeedbackModel):
    """Base class of the rules that bring something from the output straight to hidden layers."""

    def sources(self):
        """Returns a list of `Source`s."""
        raise NotImplementedError

    def check(self):
        if self.modulation is not None:
            self._leaving = [
                Leaving(self.wiring, layer, type(self).__name__)
                for layer in self.wiring.hidden_layers
            ]

    def feedback_shapes(self):
        rule, wiring, sources = type(self).__name__, self.wiring, self.sources()
        takers = {}
        for site in wiring.sites:
            if site.depends:
                takers.setdefault(wiring.source(site.input), []).append(site)
        steps = wiring.program.steps
        made_at = {slot: place for place, step in enumerate(steps) for slot in step.outputs}

        self.targets, named = [], []
        for slot in sorted(takers, key=made_at.get):
            layer = wiring.maker(slot).operation
            above = {one for site in takers[slot] for one in wiring.outputs_above(site)}
            reached = [s for s in sources if above.intersection(s.sites)]
            timed = [slot in wiring.over_time, *(source.over_time for source in reached)]
            node_axes = min(self._node_axes(site) for site in takers[slot])
            shapes = [source.shape for source in reached]
            found = projections(slot.shape, shapes, timed, node_axes)
            outputs = [projection.outputs for projection in found]
            check_size(
                rule,
                (layer, slot.shape[1:]),
                found[0].values,
                None if None in outputs else sum(outputs),
            )
            target = Target(slot, len(named), reached, found)
            self.targets.append(target)
            named.append((layer.name, target.shape, takers[slot][0].layer.variable_dtype))
        return named

    def _node_axes(self, site):
        """How many of the last axes of a tensor are the nodes that a layer takes from it."""
        if self.wiring.source(site.input) is not site.input:
            return 1
        axes = sorted(axis % len(site.input.shape) for axis in site.linear.input_axes)
        rank = len(site.input.shape)
        return len(axes) if axes == list(range(rank - len(axes), rank)) else 1

    def factor(self, place, modulation=None):
        return self._leaving[place].factor(modulation or self.modulation)
