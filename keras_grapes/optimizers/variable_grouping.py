"""Which of an optimizer's variables feed which nodes: by name, by a model, or as it was saved."""

import math

from keras_grapes import backend, graph
from keras_grapes.checks import check_model
from keras_grapes.groups import (
    Group,
    group_by_name,
    is_kernel_name,
    is_unknown,
    path_of,
    tied_notes,
    weight_layers,
)
from keras_grapes.optimizers.variable_paths import AmbiguousPathsError, pair_by_path

__all__ = []


class NameGrouping:
    """Finds the groups among an optimizer's variables by their names."""

    layers = None
    output_guessed = True

    def find(self, variables):
        """Returns the groups, and a list of notes for the user."""
        return group_by_name(variables), _adapter_notes(variables)

    def output_layers_of(self, model):
        """Returns the layers of a model that were said to compute its outputs, or `None`."""
        return None

    def get_config(self, built_with):
        if built_with is None:
            return None
        return {"by_name": True, **_describe(self, self.find(built_with)[0], built_with)}


class ModelGrouping:
    """Finds the groups among an optimizer's variables by the layers of a model.

    Args:
        model: A built `keras.Model`.
        output_layers: As in `keras_grapes.groups.weight_layers`.
    """

    def __init__(self, model, output_layers=None):
        check_model("model", model)
        if not model.weights:
            raise ValueError(
                f"`model` must be built, so that its layers have weights. Received: model "
                f"'{model.name}', which has none. Give it a `keras.Input`, call "
                "`model.build(input_shape)` or call it on data before you make the optimizer."
            )
        self.model = model
        self.output_layers = output_layers
        # What is wrong with `output_layers` is said at once.
        weight_layers(model, output_layers)

    @property
    def layers(self):
        return graph.all_layers(self.model)

    @property
    def output_guessed(self):
        entries = weight_layers(self.model, self.output_layers)
        return any(entry.is_output and entry.output_guessed for entry in entries)

    def output_layers_of(self, model):
        """Returns the layers of a model that were said to compute its outputs, or `None`."""
        return self.output_layers if model is self.model else None

    def find(self, variables):
        """Returns the groups, and a list of notes for the user.

        Raises:
            ValueError: If the variables are another model's.
        """
        entries = weight_layers(self.model, self.output_layers)
        hidden = _hidden_groups(entries)
        given = {backend.variable_key(v) for v in variables}
        groups = [group for group in hidden if given & set(group.keys)]
        notes = [
            *self._check_owners(variables),
            *_adapter_notes(variables),
            *_unknown_weights_notes(entries),
            *_unknown_output_notes(entries),
            *tied_notes(entries),
        ]
        if not groups and not notes:
            why = "has no hidden layer with a kernel"
            if hidden:
                why = f"trains none of its {len(hidden)} hidden kernels"
            notes.append(
                f"`Grapes` modulates nothing: model '{self.model.name}' {why}. It trains as with "
                "the inner optimizer alone."
            )
        return groups, notes

    def _check_owners(self, variables):
        own = {backend.variable_key(v) for v in self.model.weights}
        foreign = [v for v in variables if backend.variable_key(v) not in own]
        if not foreign:
            return []
        names = [path_of(v) for v in foreign[:3]]
        if len(foreign) == len(variables) or any(map(_is_kernel, foreign)):
            raise ValueError(
                f"The optimizer was made for model '{self.model.name}' but is built with "
                f"variables that are not that model's, such as {names}. Pass the model that "
                "is trained, as in Grapes(..., model=model), and make a new optimizer after you "
                "change or clone a model."
            )
        return [
            f"`Grapes` was made for model '{self.model.name}' and is built with {len(foreign)} "
            f"variables that are not that model's, such as {names}. They learn at the plain rate."
        ]

    def get_config(self, built_with):
        weights = list(self.model.weights)
        entries = weight_layers(self.model, self.output_layers)
        hidden = _hidden_groups(entries)
        said = None
        if self.output_layers is not None:
            said = [entry.layer.weights[0] for entry in entries if entry.is_output]
        if built_with is None:
            return _describe(self, hidden, weights, output_layers=said)
        own = {backend.variable_key(v) for v in weights}
        weights += [v for v in built_with if backend.variable_key(v) not in own]
        given = {backend.variable_key(v) for v in built_with}
        groups = [group for group in hidden if given & set(group.keys)]
        others = [group for group in hidden if not given & set(group.keys)]
        return _describe(self, groups, weights, others, said)


class StoredGrouping:
    """Finds the groups that a saved optimizer had, by the paths and shapes of their kernels.

    Args:
        config: Dict with `weights`, a list of the path, the shape and whether it was trained of
            each weight that was known, in their order; `groups`, with the `incoming_axes` and the
            places in `weights` of the `kernels` of each; `not_trained`, the places of hidden
            kernels that the optimizer did not train; `output_layers`, the place of a weight of each
            layer that was said to compute the outputs, or `None`; `output_guessed`, whether the
            rest of the kernels is left alone by a guess; `by_name`, whether no model was known.
    """

    layers = None

    def __init__(self, config):
        if not isinstance(config, dict):
            raise ValueError(
                "The config of this `Grapes` tells its kernels by their positions alone, as a "
                "version before the first release wrote it. Load the model with `compile=False` "
                "and compile it with a new optimizer: Grapes(..., model=model)."
            )
        self.config = config

    @property
    def output_guessed(self):
        return self.config["output_guessed"]

    def find(self, variables):
        """Returns the groups, and a list of notes for the user.

        Raises:
            ValueError: If the variables are not those that the saved optimizer knew.
        """
        found = self._match(variables)
        if found is None:
            return NameGrouping().find(variables)
        groups = []
        for entry in self.config["groups"]:
            kernels = [found.get(place) for place in entry["kernels"]]
            if all(kernel is None for kernel in kernels):
                continue  # Not trained any more.
            if any(kernel is None for kernel in kernels):
                raise self._refusal(variables, "only a part of the kernels of a node is trained")
            axes = [tuple(axes) for axes in entry["incoming_axes"]]
            groups.append(Group(kernels, axes))
        return groups, [*self._notes(found, variables), *_adapter_notes(variables)]

    def output_layers_of(self, model):
        """Returns the layers of a model that were said to compute its outputs, or `None`."""
        said = self.config.get("output_layers")
        if said is None:
            return None
        for numbered in (True, False):
            try:
                found = pair_by_path(self.config["weights"], model.weights, numbered)
            except AmbiguousPathsError:
                continue
            if all(place in found for place in said):
                return [_owner(model, found[place]) for place in said]
        return None

    def _match(self, variables):
        """The variables by their places in the list of stored weights.

        `None` stands for those of another model, where the names are to tell.
        """
        by_name = self.config.get("by_name", False)
        problem = "none of its kernels is among them"
        part_of_them = None
        for numbered in (True, False):
            try:
                found = pair_by_path(self.config["weights"], variables, numbered)
            except AmbiguousPathsError as error:
                problem = str(error)
                continue
            known = {id(variable) for variable in found.values()}
            unknown = [v for v in variables if id(v) not in known and _is_kernel(v)]
            if found and not unknown:
                return found
            if part_of_them is None and any(_is_kernel(v) for v in found.values()):
                part_of_them = found
            if unknown:
                problem = f"it does not know {[path_of(v) for v in unknown[:3]]}"
        if by_name:
            return part_of_them
        raise self._refusal(variables, problem)

    def _refusal(self, variables, problem):
        paths = [path for path, *_ in self._kernels()]
        given = [path_of(v) for v in variables if _is_kernel(v)]
        return ValueError(
            "This optimizer was restored for a model with other kernels than those that it is "
            f"built with: {problem}. It modulates {paths[:5]}. Received: {given[:5]}. Make a new "
            "one: Grapes(..., model=model)."
        )

    def _kernels(self):
        places = [place for entry in self.config["groups"] for place in entry["kernels"]]
        return [self.config["weights"][place] for place in places]

    def _notes(self, found, variables):
        notes = []
        known = {id(v) for v in found.values()}
        late = [path_of(found[p]) for p in self.config["not_trained"] if p in found]
        late += [path_of(v) for v in variables if id(v) not in known and _is_kernel(v)]
        if late:
            notes.append(
                "This `Grapes` was restored, and modulates the kernels that it modulated when it "
                f"was saved. These were not trained then and learn at the plain rate: {late}. To "
                "have them modulated make a new optimizer: Grapes(..., model=model)."
            )
        extra = [path_of(v) for v in variables if id(v) not in known]
        extra = [path for path in extra if path not in late]
        if extra:
            notes.append(
                f"This `Grapes` was restored for a model without {extra[:3]}, which learn at the "
                "plain rate."
            )
        return notes

    def get_config(self, built_with):
        if built_with is None:
            return self.config
        found = self._match(built_with)
        if found is None:
            return NameGrouping().get_config(built_with)
        weights = [list(weight) for weight in self.config["weights"]]
        for place, variable in found.items():
            weights[place] = _entry(variable)
        trained, not_trained = [], list(self.config["not_trained"])
        for entry in self.config["groups"]:
            if any(place in found for place in entry["kernels"]):
                trained.append(entry)
            else:
                not_trained += entry["kernels"]
        return {**self.config, "weights": weights, "groups": trained, "not_trained": not_trained}


def _owner(model, variable):
    """The layer of a model that owns a variable, not one around that layer."""
    owners = [entry.layer for entry in weight_layers(model)]
    owners = [layer for layer in owners if any(weight is variable for weight in layer.weights)]
    return min(owners, key=lambda layer: len(layer.weights))


def _entry(variable):
    return [path_of(variable), list(variable.shape), bool(variable.trainable)]


def _describe(found_by, groups, weights, not_trained=(), output_layers=None):
    """The groups as a `StoredGrouping` finds them again."""
    place_of = {backend.variable_key(weight): place for place, weight in enumerate(weights)}
    return {
        "weights": [_entry(weight) for weight in weights],
        "groups": [
            {
                "kernels": [place_of[key] for key in group.keys],
                "incoming_axes": [list(axes) for axes in group.incoming_axes],
            }
            for group in groups
        ],
        "not_trained": [place_of[key] for group in not_trained for key in group.keys],
        "output_layers": output_layers
        and [place_of[backend.variable_key(weight)] for weight in output_layers],
        "output_guessed": found_by.output_guessed,
    }


def _hidden_groups(entries):
    """Groups of all nodes that are not output nodes; shared weights count at the output."""
    output = {key for e in entries for g in e.groups if e.is_output_group(g) for key in g.keys}
    return [group for entry in entries for group in entry.groups if not output & set(group.keys)]


def _is_kernel(variable):
    return is_kernel_name(variable) and len(variable.shape) >= 2


def _adapter_notes(variables):
    adapters = [path_of(v) for v in variables if v.name.startswith("lora_kernel")]
    if not adapters:
        return []
    return [
        f"`Grapes` does not modulate LoRA adapters, such as {adapters[:2]}: each of them is but a "
        "factor of the kernel, and no kernel of nodes. `keras_grapes.propagate(model)` modulates "
        "the error of these layers by their kernel with its adapters."
    ]


def _unknown_weights_notes(entries):
    """Says so where most of the weights between nodes are of layers whose nodes are not known."""
    unknown = [e.layer for e in entries if is_unknown(e.layer)]
    known = sum(math.prod(k.shape) for e in entries for g in e.groups for k in g.kernels)
    left = sum(
        math.prod(weight.shape)
        for layer in unknown
        for weight in layer.trainable_weights
        if len(weight.shape) >= 2
    )
    if left <= known:
        return []
    names = sorted({type(layer).__name__ for layer in unknown})
    return [
        f"`Grapes` does not know which nodes most of the weights of the model feed: {left:,} in "
        f"layers of the classes {names} learn at the plain rate, beside {known:,} in kernels. Tell "
        "it with `keras_grapes.register_grouping`; a grouping that returns an empty list says that "
        "a class has no nodes."
    ]


def _unknown_output_notes(entries):
    return [
        f"`Grapes` takes layer '{e.layer.name}' of class {type(e.layer).__name__}, whose weights "
        "are not known to feed nodes, for an output layer. Say that it has no nodes with "
        "`keras_grapes.register_grouping`, or name the output layers: "
        "Grapes(..., model=model, output_layers=[...])."
        for e in entries
        if e.is_output and e.output_guessed and is_unknown(e.layer)
    ]
