"""What modulates which nodes of a model: one list for whoever shows or records the factors."""

import collections
import dataclasses
import functools
import typing

import keras

from keras_grapes import graph, grouping
from keras_grapes.layers.error_modulation import ErrorModulation, output_group
from keras_grapes.modulation import Modulation
from keras_grapes.optimizers.grapes import Grapes
from keras_grapes.training.feedback import FeedbackModel, all_optimizers


@dataclasses.dataclass(eq=False)
class NodeGroup:
    """A group of nodes of a model and what modulates it.

    Attributes:
        entry: The `keras_grapes.grouping.WeightLayer` that owns its weights.
        group: The `keras_grapes.grouping.Group`.
        modulation: The `Modulation` of the nodes, or the one that they would have.
        status: String, `"error"` or `"update"` for what is modulated, else `"no"` and why.
        factor_by: Function from a `Modulation` to the factors now.
    """

    entry: grouping.WeightLayer
    group: grouping.Group
    modulation: Modulation
    status: str
    factor_by: typing.Callable

    @property
    def is_modulated(self):
        return self.status in ("error", "update")

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
    grapes = find_grapes(model)
    updated_by = {}
    for optimizer in grapes:
        groups = optimizer.groups if optimizer.built else optimizer.find_groups(model)
        updated_by.update((key, optimizer) for group in groups for key in group.keys)
    rule_factors = _rule_factors(model)
    wrappers = [layer for layer in graph.all_layers(model) if isinstance(layer, ErrorModulation)]
    # By the layer: with LoRA or quantized, its kernel is another tensor at every access.
    wrapper_of = {
        id(inner): wrapper
        for wrapper in wrappers
        for inner in [wrapper.layer, *graph.all_layers(wrapper.layer)]
    }

    found = []
    for entry in weight_layers(model):
        for group in entry.groups:
            key = group.keys[0]
            factor_by = group.factor
            wrapper = wrapper_of.get(id(entry.layer))
            acts = wrapper is None or group.feeds_output
            wrapper = wrapper or _wrapper_within(entry.layer, group, wrappers)
            if wrapper is not None:
                status = "error" if acts else "no: inner nodes of the layer"
                modulation = wrapper.modulation
            elif key in rule_factors:
                status, modulation = "error", model.modulation
                factor_by = rule_factors[key]
            else:
                optimizer = updated_by.get(key, grapes[0] if grapes else None)
                modulation = optimizer.modulation if optimizer else Modulation()
                if key in updated_by:
                    status = "update"
                elif entry.is_output_group(group):
                    status = "no: output layer" + (", guessed" if entry.output_guessed else "")
                elif grapes:
                    status = "no: not known to the optimizer, pass model="
                    if not any(_is_trainable(k) for k in group.kernels):
                        status = "no: frozen"
                        if getattr(entry.layer, "lora_enabled", False):
                            status = "no: frozen, only its LoRA adapters train"
                elif wrappers:
                    status = "no: not wrapped"
                    if group.output_axis is None:
                        status = "no: nodes are not the channels of its output"
                else:
                    status = "no"
            found.append(NodeGroup(entry, group, modulation, status, factor_by))
    return found


def weight_layers(model):
    """Lists the `keras_grapes.grouping.WeightLayer`s of the model that is trained.

    The output layers are those that were said to the optimizer that it is compiled with, if any.
    """
    trained = trained_model(model)
    said = [optimizer.output_layers_of(trained) for optimizer in find_grapes(model)]
    said = [output_layers for output_layers in said if output_layers is not None]
    return grouping.weight_layers(trained, said[0] if said else None)


def names(groups):
    """Returns a name for each `NodeGroup`: its layer's, or the path of its kernel where that is
    the name of several."""
    layer_names = [nodes.entry.layer.name for nodes in groups]
    counts = collections.Counter(layer_names)
    given = []
    for nodes, name in zip(groups, layer_names):
        if counts[name] > 1:
            name = getattr(nodes.group.kernels[0], "path", name)
        # Layers of one path, in two models that were nested in a third.
        number = 1
        unique = name
        while unique in given:
            number += 1
            unique = f"{name}_{number}"
        given.append(unique)
    return given


def find_grapes(model):
    """Lists the `Grapes` that a model is compiled with, those within other optimizers too."""
    optimizer = getattr(model, "optimizer", None)
    return [one for one in all_optimizers(optimizer) if isinstance(one, Grapes)]


def trained_model(model):
    """The model whose layers are trained: of a feedback model the one within."""
    return model.model if isinstance(model, FeedbackModel) else model


def _rule_factors(model):
    """Maps kernels to the functions that give the factors of a feedback rule."""
    if not isinstance(model, FeedbackModel) or model.modulation is None:
        return {}
    return {
        group.keys[0]: functools.partial(model.factor, place)
        for place, group in enumerate(model.hidden_groups)
    }


def _wrapper_within(layer, group, wrappers):
    """The `ErrorModulation` in a layer that acts on a group of it, or `None`."""
    within = {id(inner) for inner in graph.all_layers(layer)}
    for wrapper in wrappers:
        if id(wrapper) in within and set(output_group(wrapper.layer).keys) & set(group.keys):
            return wrapper
    return None


def _is_trainable(kernel):
    return getattr(kernel, "trainable", False)
