"""Copies of models that are the model: its classes, weights, ties and flags at every depth."""

import contextlib
import tempfile
import types
import warnings

import keras

from keras_grapes import graph, keras_hooks
from keras_grapes.layers.error_modulation import ErrorModulation

__all__ = []


def copy_model(model, replace=None, strip=False):
    """Returns a copy of a model, compiled if the model is.

    Sequential and Functional models are made anew on new inputs, those nested in them too; every
    other layer is made from its config. What a layer holds and no config can tell is taken from
    the layer at hand: functions, classes that are not registered, other layers of the model.

    Args:
        model: A built model for which `graph.can_be_rebuilt` holds.
        replace: Function of a layer and its copy that returns what stands in the copy's place.
            Defaults to `None`, the copy.
        strip: Bool, whether to leave out every `ErrorModulation`. Defaults to `False`.

    Returns:
        A new `keras.Model`.

    Raises:
        ValueError: If a layer cannot be copied, or if the copy would not be the model.
    """
    copier = _Copier(model, replace or (lambda layer, copy: copy), strip)
    copy = copier.place(model)
    if strip:
        _check_stripped(copy)
    copier.finish(model)
    if model.compiled:
        _compile(model, copy)
    return copy


def parts(model):
    """Yields the layers of a model that its copy is put together from, each once.

    Nested models that can be made anew are opened; others are parts as they are.
    """
    seen = {}
    for layer in _units(model):
        if id(layer) not in seen and not graph.can_be_rebuilt(layer):
            seen[id(layer)] = layer
    return list(seen.values())


def _units(model):
    for layer in graph.sublayers(model):
        yield layer
        if graph.can_be_rebuilt(layer):
            yield from _units(layer)


class _Copier:
    """Makes the layers of a copy, each of them once."""

    def __init__(self, model, replace, strip):
        self._replace = replace
        self._strip = strip
        # By the id of the layer, with the layer: an id is that of an object that lives.
        self._copies = {}
        self._placed = {}
        self._in_work = set()
        self._units = {id(layer): layer for layer in [model, *_units(model)]}
        self._holders = {}
        for part in parts(model):
            for inner in graph.all_layers(part):
                self._holders.setdefault(id(inner), []).append(part)

    def place(self, layer):
        """Returns what stands in the copy where `layer` stands in the model."""
        if id(layer) not in self._placed:
            if graph.can_be_rebuilt(layer):
                placed = self._rebuild(layer)
            elif isinstance(layer, keras.layers.Layer):
                placed = self._replace(layer, self.copy(layer))
            else:
                placed = _copy_operation(layer)
            self._placed[id(layer)] = (layer, placed)
        return self._placed[id(layer)][1]

    def copy(self, layer):
        """Returns the copy of a layer, without the wrappers that are left out."""
        layer = self._within(layer)
        if id(layer) not in self._copies:
            self._in_work.add(id(layer))
            copy = make_again(layer, self._references(layer))
            self._in_work.remove(id(layer))
            self._copies[id(layer)] = (layer, copy)
            # Layers that it makes by itself may be held by others too.
            held, made = self._all_layers(layer), graph.all_layers(copy)
            if len(held) == len(made):
                for inner, inner_copy in zip(held, made):
                    self._copies.setdefault(id(inner), (inner, inner_copy))
        return self._copies[id(layer)][1]

    def finish(self, model):
        """Copies what the layers have learned and their flags, and checks the copy on the way."""
        matched = {}
        for layer, placed in list(self._placed.values()):
            if not isinstance(layer, keras.layers.Layer):
                continue  # A plain operation such as `x + y`.
            keras_hooks.copy_trainable_flag(layer, placed)
            self._match(layer, placed, matched)
        missing = [v.path for v in model.variables if id(v) not in matched]
        if missing:
            raise ValueError(
                f"The copy of model '{model.name}' would lack weights that are not in the graph of "
                f"its layers: {', '.join(missing)}. {_WAYS_OUT}"
            )
        copies = {id(copied) for _, copied in matched.values()}
        if len(copies) != len(matched):
            raise ValueError(
                f"The copy of model '{model.name}' would share weights where the model does not: "
                f"{len(matched)} weights became {len(copies)}. {_WAYS_OUT}"
            )

    def _rebuild(self, model):
        """Makes a Sequential or Functional model anew."""
        if isinstance(model, keras.Sequential):
            layers = [self.place(layer) for layer in model.layers]
            return type(model)([graph.new_inputs(model), *layers], name=model.name)
        # Without what the model is compiled with: Keras would deserialize that.
        plain = keras.Model(model.input, model.output, name=model.name)
        clone = keras.models.clone_model(
            plain, input_tensors=graph.new_inputs(model), clone_function=self.place
        )
        if type(clone) is type(model):
            return clone
        return type(model)(clone.input, clone.output, name=model.name)

    def _within(self, layer):
        while self._strip and isinstance(layer, ErrorModulation):
            layer = layer.layer
        return layer

    def _all_layers(self, layer):
        return [inner for inner in graph.all_layers(layer) if self._within(inner) is inner]

    def _references(self, layer):
        """Maps the layers in a layer that are not its alone to what returns their copies."""
        references = {}
        for inner in graph.all_layers(layer):
            if self._within(inner) is not inner or id(inner) in self._copies:
                references[id(inner)] = (inner, self.copy)
            elif id(inner) in self._units:
                place = self.place if graph.can_be_rebuilt(inner) else self.copy
                references[id(inner)] = (inner, place)
            elif len(self._holders.get(id(inner), ())) > 1:
                references[id(inner)] = (inner, self._copy_shared)
        return references

    def _copy_shared(self, layer):
        """The copy of a layer that several hold: made by the one that makes it, if one does."""
        for holder in self._holders[id(layer)]:
            if id(layer) not in self._copies and id(holder) not in self._in_work:
                self.copy(holder)
        return self.copy(layer)

    def _match(self, layer, copy, matched):
        """Pairs the weights of a layer with those of its copy, at every depth."""
        layer = self._within(layer)
        if isinstance(copy, ErrorModulation) and not isinstance(layer, ErrorModulation):
            copy = copy.layer
        if type(layer) is not type(copy):
            raise ValueError(
                f"The copy of layer '{layer.name}' of class {type(layer).__name__} would be of "
                f"class {type(copy).__name__}. {_WAYS_OUT}"
            )
        if "call" in vars(layer) and not isinstance(layer, ErrorModulation):
            raise ValueError(
                f"`call` of layer '{layer.name}' of class {type(layer).__name__} was replaced, and "
                f"its copy would have that of the class. Write a subclass. {_WAYS_OUT}"
            )
        # Of some layers (ConvLSTM2D) and of parts of a layer no config tells it.
        keras_hooks.copy_trainable_flag(layer, copy)
        _copy_settings(layer, copy)
        for variable, copied in _pairs(layer, copy):
            known = matched.setdefault(id(variable), (variable, copied))[1]
            if known is not copied:
                raise ValueError(
                    f"The copy of layer '{layer.name}' of class {type(layer).__name__} would "
                    f"have a weight of its own for '{variable.path}', which the model shares. "
                    f"{_WAYS_OUT}"
                )
            # Some backends would share the array.
            copied.assign(keras.ops.copy(variable))
            copied.trainable = variable.trainable
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            # Keras does not count them among the variables.
            states = (keras.tree.flatten(rnn.states or []) for rnn in (layer, copy))
            for state, copied in zip(*states):
                copied.assign(keras.ops.copy(state))
        if isinstance(layer, _PREPROCESSING):
            _copy_adapted(layer, copy)
        if id(layer) in self._placed and graph.can_be_rebuilt(layer):
            return  # Its layers are parts themselves.
        inner_layers, inner_copies = graph.sublayers(layer), graph.sublayers(copy)
        if len(inner_layers) != len(inner_copies):
            raise ValueError(
                f"The copy of layer '{layer.name}' of class {type(layer).__name__} would hold "
                f"{len(inner_copies)} layers, and not {len(inner_layers)}. {_WAYS_OUT}"
            )
        for inner, inner_copy in zip(inner_layers, inner_copies):
            self._match(inner, inner_copy, matched)


_WAYS_OUT = (
    "Wrap the hidden layers with `keras_grapes.ErrorModulation` where you create them, or modulate "
    "the model as it is with `keras_grapes.Grapes(optimizer, model=model)`."
)


def make_again(original, references=()):
    """Returns a new object from the config of one at hand.

    Functions and classes that only a registration could find again are taken from what `original`
    holds; so nothing that it holds has to be registered.

    Args:
        original: A layer, operation, optimizer or metric.
        references: Dict of pairs `(layer, function)`, by id, of layers within: `function(layer)`
            stands in the new object where `layer` stands in `original`.

    Raises:
        ValueError: If the class cannot be made from its config.
    """
    references = dict(references)
    held = [original, *graph.held_objects(original)]
    try:
        with _named(held) as functions, _referred(references):
            config = original.get_config()

        class Reference:
            @classmethod
            def from_config(cls, config):
                layer, function = references[config[_REFERENCE]]
                return _built(function(layer), layer)

        at_hand = {**_classes(held), **functions, f"keras_grapes>{_REFERENCE}": Reference}
        with keras.saving.custom_object_scope(at_hand):
            return type(original).from_config(_with_references(config))
    except NotCopiedError:
        raise
    except Exception as error:
        made = _called_again(original)
        if made is not None:
            return made
        # Some of Keras's messages go on with an example.
        reason = " ".join(str(error).strip().split("\n\n")[0].split())
        raise NotCopiedError(
            f"Keras cannot make '{original.name}' of class {type(original).__name__} anew from its "
            f"config. Mend the `get_config` and `from_config` of that class. {_WAYS_OUT} Keras "
            f"says: {reason}"
        ) from error


def _built(copy, layer):
    """Builds the copy of a layer that may be asked for its weights before it is called."""
    if layer.built and not copy.built and (config := layer.get_build_config()):
        copy.build_from_config(config)
    return copy


def _called_again(original):
    """Calls a class again as it was called, where Keras keeps the arguments; else `None`."""
    arguments = getattr(getattr(original, "_auto_config", None), "config", None)
    if arguments is None or any(isinstance(v, keras.layers.Layer) for v in arguments.values()):
        return None
    try:
        made = type(original)(**arguments)
    except Exception:
        return None
    made.name = original.name
    return made


class NotCopiedError(ValueError):
    """Of a layer within another one the first message is the one that helps."""


_REFERENCE = "reference"


@contextlib.contextmanager
def _named(held):
    """Gives functions names of their own, by which Keras serializes them; yields them by name.

    Else a lambda would come back without what it refers to, a function with the name of one of
    Keras's as that one, and a `functools.partial` not at all.
    """
    given = {}

    def new_name(function):
        name = f"function_at_hand_{len(given)}"
        given[name] = function
        return name

    with contextlib.ExitStack() as stack:
        for value in held:
            if _is_unregistered_function(value):
                stack.callback(setattr, value, "__name__", value.__name__)
                value.__name__ = new_name(value)
            elif isinstance(value, keras.Operation):
                attributes = vars(value)
                for attribute, other in graph.attributes(value).items():
                    if _is_nameless_callable(other):
                        stack.callback(attributes.__setitem__, attribute, other)
                        attributes[attribute] = _stand_in(new_name(other))
        yield given


def _is_unregistered_function(value):
    if not isinstance(value, types.FunctionType):
        return False
    return keras.saving.get_registered_name(value) == value.__name__


def _is_nameless_callable(value):
    """Whether it is one that Keras cannot serialize, such as a partial or a bound method."""
    is_serialized = isinstance(value, (types.FunctionType, type)) or hasattr(value, "get_config")
    return callable(value) and not is_serialized


def _stand_in(name):
    def stand_in():
        """Serializes to its name."""

    stand_in.__name__ = name
    return stand_in


@contextlib.contextmanager
def _referred(references):
    """Lets layers serialize as references to themselves."""
    try:
        for key, (layer, _) in references.items():
            vars(layer)["get_config"] = lambda key=key: {_REFERENCE: key}
        yield
    finally:
        for layer, _ in references.values():
            vars(layer).pop("get_config", None)


def _with_references(config):
    """Replaces what layers serialized to as references by what is deserialized as one."""
    if isinstance(config, dict):
        inner = config.get("config")
        if isinstance(inner, dict) and set(inner) == {_REFERENCE}:
            name = f"keras_grapes>{_REFERENCE}"
            return {
                "module": None,
                "class_name": _REFERENCE,
                "registered_name": name,
                "config": inner,
            }
        return {key: _with_references(value) for key, value in config.items()}
    if type(config) in (list, tuple):
        return type(config)(_with_references(value) for value in config)
    return config


def _classes(held):
    """The classes of objects that Keras would look for among what is registered, by name."""
    classes = {type(value) for value in held if hasattr(value, "get_config")}
    return {cls.__name__: cls for cls in classes if not _is_known(cls)}


def _is_known(function_or_class):
    """Whether Keras finds a function or class by itself."""
    is_registered = (
        keras.saving.get_registered_name(function_or_class) != function_or_class.__name__
    )
    return is_registered or function_or_class.__module__.split(".")[0] == "keras"


def _copy_operation(operation):
    try:
        return make_again(operation)
    except ValueError:
        return operation  # It has no state, and may stand in two graphs.


def _pairs(layer, copy):
    """Pairs a layer's own variables with those of its copy: by name, as their order may differ."""
    ours, theirs = _own_variables(layer), _own_variables(copy)
    by_name = {variable.name: variable for variable in theirs}
    names = [variable.name for variable in ours]
    if len(by_name) == len(theirs) and set(by_name) == set(names) and len(set(names)) == len(names):
        theirs = [by_name[name] for name in names]

    kinds, kinds_of_copy = ([(tuple(v.shape), v.dtype) for v in vs] for vs in (ours, theirs))
    if kinds != kinds_of_copy:
        raise ValueError(
            f"The copy of layer '{layer.name}' of class {type(layer).__name__} would have weights "
            f"of the shapes {kinds_of_copy}, and not {kinds}. {_WAYS_OUT}"
        )
    return list(zip(ours, theirs))


def _own_variables(layer):
    nested = {id(v) for inner in graph.sublayers(layer) for v in inner.variables}
    return [variable for variable in layer.variables if id(variable) not in nested]


# What Keras keeps in a layer or a model by itself.
_KERAS_ATTRIBUTES = {*vars(keras.layers.Layer()), *vars(keras.Model()), "name"}


def _copy_settings(layer, copy):
    """Copies plain values that a layer of an own class holds: no config need tell them."""
    if _is_known(type(layer)):
        return
    for name, value in vars(layer).items():
        is_plain = value is None or isinstance(value, (bool, int, float, str))
        if is_plain and name not in _KERAS_ATTRIBUTES and vars(copy).get(name, copy) != value:
            setattr(copy, name, value)


_PREPROCESSING = (
    keras.layers.Normalization,
    keras.layers.IntegerLookup,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
)


def _copy_adapted(layer, copy):
    """Copies what a preprocessing layer has learned by `adapt`, as Keras saves and loads it."""
    if isinstance(layer, keras.layers.Normalization):
        copy.finalize_state()
    elif layer.get_vocabulary(include_special_tokens=False):
        store = {}
        layer.save_own_variables(store)
        copy.load_own_variables(store)
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            copy.load_assets(folder)


def _check_stripped(copy):
    for layer in [copy, *graph.all_layers(copy)]:
        if any(isinstance(inner, ErrorModulation) for inner in graph.sublayers(layer)):
            raise ValueError(
                f"`strip` cannot take the `ErrorModulation` out of layer '{layer.name}' of class "
                f"{type(layer).__name__}, which makes it by itself. Let the class take the layer, "
                "or an argument that says whether to wrap it."
            )


def _compile(model, copy):
    """Compiles a copy as the model is, with the losses at hand and a fresh optimizer."""
    if not graph.is_keras_method(model, "compile"):
        copy.compile_from_config(model.get_compile_config())
        return
    settings = keras_hooks.compile_arguments(model)
    optimizer = model.optimizer
    loss_scale = keras.optimizers.LossScaleOptimizer
    if isinstance(optimizer, loss_scale) and not isinstance(settings["optimizer"], loss_scale):
        optimizer = optimizer.inner_optimizer  # `compile` wraps it again.
    try:
        settings["optimizer"] = make_again(optimizer)
    except ValueError as error:
        warnings.warn(f"The copy is not compiled. {error}", stacklevel=4)
        return
    for name in ("metrics", "weighted_metrics"):
        settings[name] = keras.tree.map_structure(_fresh, settings[name])
    copy.compile(**settings)
    copy.optimizer.build(copy.trainable_variables)


def _fresh(metric):
    """A metric without the counts of the one at hand."""
    if not isinstance(metric, keras.metrics.Metric):
        return metric
    try:
        return make_again(metric)
    except ValueError:
        return metric
