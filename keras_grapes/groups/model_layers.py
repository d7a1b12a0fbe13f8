"""The layers of a model that own weights, with their groups and their place in the model."""

import dataclasses

import keras

from keras_grapes import graph
from keras_grapes.groups import owners
from keras_grapes.groups.output_layers import OutputSearch, named_layers
from keras_grapes.groups.registry import groupings, layer_groups

__all__ = []


@dataclasses.dataclass(eq=False)
class WeightLayer:
    """A layer that owns weights, with its groups and its place in a model.

    Attributes:
        layer: The layer.
        groups: List of its `Group`s; empty when nothing in it can be modulated.
        is_output: Bool, whether the output is reached from it through no further kernel.
        output_guessed: Bool, whether `is_output` was told from the order of the layers alone.
        held_by: The layer that computes outputs with the weights of this one, where this one is
            called further down by itself, as the encoder of a tied decoder is; else `None`.
    """

    layer: keras.layers.Layer
    groups: list
    is_output: bool = False
    output_guessed: bool = False
    held_by: keras.layers.Layer | None = None

    def is_output_group(self, group):
        return self.is_output and group.feeds_output


def weight_layers(root, output_layers=None):
    """Lists the layers of a model, or of a composite layer, that own weights.

    Output layers are those from which the output is reached through no further layer whose weights
    mix nodes. Where there is a graph they are known from it. Of subclassed models and composite
    layers the last part is taken, of several models in one the last that is trained; then
    `output_guessed` says so.

    Args:
        root: A built `keras.Model` or layer.
        output_layers: List of layers of `root`, or of their names or paths, that compute its
            outputs; an empty one where `root` is a part and its outputs are hidden nodes of the
            whole. Defaults to `None`, to find them.

    Returns:
        List of `WeightLayer`, in the order of the graph.

    Raises:
        TypeError: If `output_layers` holds something else than layers and strings.
        ValueError: If one of `output_layers` is not in `root`, is one of several of that name, or
            has no weights.
    """
    leaves = graph.leaf_layers(root) if graph.has_graph(root) else [root]
    within = [owner for leaf in leaves for owner in owners.weight_owners(leaf)]
    found = {id(owner): WeightLayer(owner, layer_groups(owner)) for owner in within}
    search = OutputSearch()
    if output_layers is None:
        search.add_outputs_of(root)
    else:
        for layer in named_layers(root, output_layers):
            search.add_outputs_of(layer)
    for key, entry in found.items():
        entry.is_output = key in search.outputs
        entry.output_guessed = key in search.guessed
        entry.held_by = search.held.get(key) if entry.is_output else None
    return list(found.values())


def tied_notes(entries):
    """Says which layers with nodes count as output layers since a tied layer holds them.

    Args:
        entries: List of `WeightLayer`.

    Returns:
        List of strings.
    """
    return [
        f"Layer '{e.layer.name}' is taken for an output layer and not modulated, since layer "
        f"'{e.held_by.name}' computes outputs with its weights. To have it modulated, say that "
        "there are no output layers with weights of their own: output_layers=[]."
        for e in entries
        if e.held_by is not None
    ]


def nested_groups(layer):
    """Returns the groups of a layer and of all its sublayers.

    Groups from which the layer's output is reached only through another kernel have
    `feeds_output=False`.
    """
    if groupings.find(layer) is not None:
        return layer_groups(layer)
    return [
        group if entry.is_output_group(group) else group.inner()
        for entry in weight_layers(layer)
        for group in entry.groups
    ]
