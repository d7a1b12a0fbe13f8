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
        updated_by.update((id(kernel), optimizer) for group in groups for kernel in group.kernels)
    rule_factors = _rule_factors(model)
    wrapper_of, acting = _wrappers(model)

    found = []
    for entry in grouping.weight_layers(trained_model(model)):
        for group in entry.groups:
            kernel = group.kernels[0]
            factor_by = group.factor
            wrapper = wrapper_of.get(id(kernel))
            if wrapper is not None:
                status = "error" if id(kernel) in acting else "no: inner nodes of the layer"
                modulation = wrapper.modulation
            elif id(kernel) in rule_factors:
                status, modulation = "error", model.modulation
                factor_by = rule_factors[id(kernel)]
            else:
                optimizer = updated_by.get(id(kernel), grapes[0] if grapes else None)
                modulation = optimizer.modulation if optimizer else Modulation()
                if id(kernel) in updated_by:
                    status = "update"
                elif entry.is_output_group(group):
                    status = "no: output layer" + (", guessed" if entry.output_guessed else "")
                elif grapes:
                    status = "no: not known to the optimizer, pass model="
                    if not any(_is_trainable(k) for k in group.kernels):
                        status = "no: frozen"
                elif wrapper_of:
                    status = "no: not wrapped"
                    if group.output_axis is None:
                        status = "no: nodes are not the channels of its output"
                else:
                    status = "no"
            found.append(NodeGroup(entry, group, modulation, status, factor_by))
    return found


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
        id(group.kernels[0]): functools.partial(model.factor, place)
        for place, group in enumerate(model.hidden_groups)
    }


def _wrappers(model):
    """Maps kernels to the `ErrorModulation` around them, and tells whose nodes it acts on."""
    wrapper_of, acting = {}, set()
    for layer in graph.all_layers(model):
        if isinstance(layer, ErrorModulation):
            wrapper_of.update((id(weight), layer) for weight in layer.weights)
            acting.update(id(kernel) for kernel in output_group(layer.layer).kernels)
    return wrapper_of, acting


def _is_trainable(kernel):
    return getattr(kernel, "trainable", False)
