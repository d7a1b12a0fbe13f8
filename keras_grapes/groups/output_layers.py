"""Which layers compute the outputs of a model: found from its graph, guessed, or named."""

import keras

from keras_grapes import graph
from keras_grapes.groups import owners
from keras_grapes.groups.registry import layer_groups

__all__ = []


class OutputSearch:
    """Looks for the owners of weights that compute a layer's output.

    Attributes:
        outputs: Set of the ids of those found.
        guessed: Set of the ids of all owners among which the order alone decided.
        held: Dict of the ids of layers that are called by themselves further down, and count as
            output layers only since a layer that computes outputs holds them, to that layer. Such
            are the encoders of tied decoders.
    """

    def __init__(self):
        self.outputs = set()
        self.guessed = set()
        self.held = {}

    def add_outputs_of(self, layer):
        if graph.has_graph(layer):
            calls = graph.output_calls(layer)
            reached = graph.reached_first(calls, owners.mixing)
            called = {id(call.layer) for call in graph.all_calls(calls)}
            for one in reached:
                self.add_outputs_of(one)
                for inner in graph.all_layers(one):
                    if id(inner) in called and layer_groups(inner):
                        self.held[id(inner)] = one
            # A layer of an unknown class may act on each node by itself: then the one behind it is.
            if any(
                owners.is_unknown(owner) for one in reached for owner in owners.weight_owners(one)
            ):
                for one in graph.reached_first(calls, owners.mixing_by_class):
                    self.guessed.update(
                        id(owner) for owner in owners.mixing(one) if one not in reached
                    )
                self.guessed.update(
                    id(o)
                    for one in reached
                    for o in owners.weight_owners(one)
                    if owners.is_unknown(o)
                )
            return
        candidates = owners.mixing(layer) or list(owners.weight_owners(layer))
        if not candidates:
            return
        parts = [part for part in owners.parts(layer) if owners.mixing(part)]
        if len(parts) == 1 and layer not in candidates:
            self.add_outputs_of(parts[0])
            return
        if len(candidates) > 1:
            self.guessed.update(id(owner) for owner in candidates)
        table = _output_table(layer, candidates)
        if table is not None or not parts:
            self.outputs.add(id(table or candidates[-1]))
        else:
            self.add_outputs_of(_last_trained(parts))


def _output_table(layer, candidates):
    """The owner of the table of an embedding that a head multiplies by, if it is one.

    The output then has a value for each row, and not one for each node of the last kernel.
    """
    widths = graph.output_widths(layer)
    if any(widths & set(group.node_shape) for group in layer_groups(candidates[-1])):
        return None
    tables = [
        owner
        for owner in candidates
        if not layer_groups(owner)
        and any(len(w.shape) == 2 and w.shape[0] in widths for w in owner.weights)
    ]
    return tables[-1] if tables else None


def _last_trained(parts):
    """The last part; of parts that are models the last one that is trained."""
    if isinstance(parts[-1], keras.Model) and not parts[-1].trainable_weights:
        trained = [p for p in parts if isinstance(p, keras.Model) and p.trainable_weights]
        return (trained or parts)[-1]
    return parts[-1]


def named_layers(root, output_layers):
    """The layers of `root` that `output_layers` names."""
    if isinstance(output_layers, (str, keras.layers.Layer)):
        output_layers = [output_layers]
    if not isinstance(output_layers, (list, tuple)):
        raise TypeError(
            "`output_layers` must be a list of layers or of their names. Received: "
            f"output_layers={output_layers!r} of type {type(output_layers).__name__}"
        )
    known = [root, *graph.all_layers(root)]
    return [_named_layer(root, known, one) for one in output_layers]


def _named_layer(root, known, one):
    if isinstance(one, keras.layers.Layer):
        named = [layer for layer in known if layer is one]
        title = f"'{one.name}'"
    elif isinstance(one, str):
        named = [layer for layer in known if one in (layer.name, layer.path)]
        # A wrapper may have the name of the layer in it.
        within = {id(inner) for layer in named for inner in graph.all_layers(layer)}
        named = [layer for layer in named if id(layer) not in within]
        title = repr(one)
    else:
        raise TypeError(
            "`output_layers` must hold layers or names of layers. Received: "
            f"{one!r} of type {type(one).__name__}"
        )
    if not named:
        weighted = [layer.name for layer in known if owners.has_own_weights(layer)]
        raise ValueError(
            f"`output_layers` names {title}, and '{root.name}' has no such layer. Its layers with "
            f"weights are {weighted}."
        )
    if len(named) > 1:
        raise ValueError(
            f"`output_layers` names {title}, and '{root.name}' has {len(named)} layers of that "
            f"name. Pass the layer itself or its path: {[layer.path for layer in named]}."
        )
    if not named[0].weights:
        raise ValueError(
            f"`output_layers` names {title}, which has no weights. Name the layer ahead of it "
            "whose kernel computes the output."
        )
    return named[0]
