"""What modulates which nodes of a model: one list for whoever shows or records the factors."""

import dataclasses
import enum
import functools
import typing

import keras

from keras_grapes import graph
from keras_grapes.groups import Group, WeightLayer, has_unknown_weights, model_layers, path_of
from keras_grapes.layers.error_modulation import ErrorModulation, output_group
from keras_grapes.modulation import Modulation
from keras_grapes.naming import distinct
from keras_grapes.optimizers.grapes import Grapes
from keras_grapes.training.feedback import FeedbackModel, all_optimizers

__all__ = []


class Action(enum.Enum):
    """What of a group of nodes is modulated."""

    ERROR = "error"
    UPDATE = "update"
    NONE = "none"


class Reason(enum.Enum):
    """Why a group of nodes, or a layer without nodes, is not modulated."""

    PLAIN_TRAINING = enum.auto()
    OUTPUT_LAYER = enum.auto()
    INNER_NODES = enum.auto()
    NODES_ARE_NO_CHANNELS = enum.auto()
    NOT_WRAPPED = enum.auto()
    WRAPPED = enum.auto()
    FROZEN = enum.auto()
    FROZEN_BUT_ADAPTERS = enum.auto()
    NOT_OF_THE_OPTIMIZER = enum.auto()
    NO_KERNEL = enum.auto()
    UNKNOWN_WEIGHTS = enum.auto()


@dataclasses.dataclass(eq=False)
class NodeGroup:
    """A group of nodes of a model and what modulates it.

    Attributes:
        entry: The `keras_grapes.groups.WeightLayer` that owns its weights.
        group: The `keras_grapes.grouping.Group`.
        modulation: The `Modulation` of the nodes, or the one that they would have.
        action: The `Action`.
        reason: The `Reason` for `Action.NONE`, else `None`.
        factor_by: Function from a `Modulation` to the factors now.
    """

    entry: WeightLayer
    group: Group
    modulation: Modulation
    action: Action
    reason: Reason | None
    factor_by: typing.Callable

    @property
    def is_modulated(self):
        return self.action is not Action.NONE

    def factor(self):
        """Returns the factors of the nodes now, an array."""
        return keras.ops.convert_to_numpy(self.factor_by(self.modulation))


def node_groups(model):
    """Lists the groups of nodes of a model, those of the output among them.

    Args:
        model: A built `keras.Model`, compiled or not, or a feedback model.

    Returns:
        List of `NodeGroup`, in the order of the graph.
    """
    modulators = _Wrappers(model), _Rule(model), _Optimizers(model)

    def describe(entry, group):
        for modulator in modulators:
            found = modulator.describe(entry, group)
            if found is not None:
                return found
        if entry.is_output_group(group):
            reason = Reason.OUTPUT_LAYER
        else:
            reasons = [modulator.why_not(entry, group) for modulator in reversed(modulators)]
            reason = next(filter(None, reasons), Reason.PLAIN_TRAINING)
        modulation = next(filter(None, (m.modulation for m in modulators)), Modulation())
        return NodeGroup(entry, group, modulation, Action.NONE, reason, group.factor)

    return [describe(entry, group) for entry in weight_layers(model) for group in entry.groups]


def why_without_nodes(layer):
    """The `Reason` why a layer with weights, whose nodes are not known, is not modulated."""
    return Reason.UNKNOWN_WEIGHTS if has_unknown_weights(layer) else Reason.NO_KERNEL


def weight_layers(model):
    """Lists the `keras_grapes.groups.WeightLayer`s of the model that is trained.

    The output layers are those that were said to the optimizer that it is compiled with, if any.
    """
    trained = trained_model(model)
    said = [optimizer.output_layers_of(trained) for optimizer in find_grapes(model)]
    said = [output_layers for output_layers in said if output_layers is not None]
    return model_layers.weight_layers(trained, said[0] if said else None)


def names(groups):
    """Returns a name for each `NodeGroup`: its layer's, or the path of its kernel where that is
    the name of several."""
    layer_names = [nodes.entry.layer.name for nodes in groups]
    paths = [path_of(nodes.group.kernels[0]) for nodes in groups]
    return distinct(layer_names, paths)


def find_grapes(model):
    """Lists the `Grapes` that a model is compiled with, those within other optimizers too."""
    optimizer = getattr(model, "optimizer", None)
    return [one for one in all_optimizers(optimizer) if isinstance(one, Grapes)]


def trained_model(model):
    """The model whose layers are trained: of a feedback model the one within."""
    return model.model if isinstance(model, FeedbackModel) else model


# What can modulate nodes. Each has `describe(entry, group)`, which returns a `NodeGroup` for nodes
# that are its own and `None` for others; `why_not(entry, group)`, the reason why others are not;
# and `modulation`, the one that others would have.


class _Wrappers:
    """The `ErrorModulation`s in a model."""

    modulation = None

    def __init__(self, model):
        layers = graph.all_layers(model)
        self._wrappers = [layer for layer in layers if isinstance(layer, ErrorModulation)]
        # By the layer: with LoRA or quantized, its kernel is another tensor at every access.
        self._around = {
            id(inner): wrapper
            for wrapper in self._wrappers
            for inner in [wrapper.layer, *graph.all_layers(wrapper.layer)]
        }

    def describe(self, entry, group):
        around = self._around.get(id(entry.layer))
        wrapper = around or self._within(entry.layer, group)
        if wrapper is None:
            return None
        acts = around is None or group.feeds_output
        action = Action.ERROR if acts else Action.NONE
        reason = None if acts else Reason.INNER_NODES
        return NodeGroup(entry, group, wrapper.modulation, action, reason, group.factor)

    def why_not(self, entry, group):
        if not self._wrappers:
            return None
        no_channels = group.output_axis is None
        return Reason.NODES_ARE_NO_CHANNELS if no_channels else Reason.NOT_WRAPPED

    def _within(self, layer, group):
        """The `ErrorModulation` in a layer that acts on a group of it, or `None`."""
        within = {id(inner) for inner in graph.all_layers(layer)}
        for wrapper in self._wrappers:
            if id(wrapper) in within and set(output_group(wrapper.layer).keys) & set(group.keys):
                return wrapper
        return None


class _Rule:
    """A feedback model with a modulation."""

    modulation = None

    def __init__(self, model):
        self._model = model
        self._places = {}
        if isinstance(model, FeedbackModel) and model.modulation is not None:
            self._places = {group.keys[0]: i for i, group in enumerate(model.hidden_groups)}

    def describe(self, entry, group):
        place = self._places.get(group.keys[0])
        if place is None:
            return None
        factor_by = functools.partial(self._model.factor, place)
        return NodeGroup(entry, group, self._model.modulation, Action.ERROR, None, factor_by)

    def why_not(self, entry, group):
        return None


class _Optimizers:
    """The `Grapes` that a model is compiled with."""

    def __init__(self, model):
        self._grapes = find_grapes(model)
        self._updates = {}
        for optimizer in self._grapes:
            groups = optimizer.groups if optimizer.built else optimizer.find_groups(model)
            self._updates.update((key, optimizer) for group in groups for key in group.keys)

    @property
    def modulation(self):
        return self._grapes[0].modulation if self._grapes else None

    def describe(self, entry, group):
        optimizer = self._updates.get(group.keys[0])
        if optimizer is None:
            return None
        return NodeGroup(entry, group, optimizer.modulation, Action.UPDATE, None, group.factor)

    def why_not(self, entry, group):
        if not self._grapes:
            return None
        if any(getattr(kernel, "trainable", False) for kernel in group.kernels):
            return Reason.NOT_OF_THE_OPTIMIZER
        has_adapters = getattr(entry.layer, "lora_enabled", False)
        return Reason.FROZEN_BUT_ADAPTERS if has_adapters else Reason.FROZEN
