"""Optimizer wrapper that lets every node learn at its own modulated rate."""

import warnings

import keras
from keras import ops

from keras_grapes import backend, graph, grouping
from keras_grapes.modulation import Modulation


@keras.saving.register_keras_serializable(package="keras_grapes")
class Grapes(keras.optimizers.Optimizer):
    """Optimizer that wraps another one and modulates its learning rate node by node.

    This is the local version of GRAPES: the kernel weights that enter node `n` of a hidden layer
    learn with the rate `learning_rate * m[n]`, where the factor `m[n]` is computed from the weights
    as they are before the step. For every optimizer whose step is linear in its learning rate this
    multiplies the weight update by the modulation matrix of the paper. Momentum accumulates
    modulated steps; weight decay, clipping, constraints, moving averages and gradient accumulation
    are those of the inner optimizer, and stay as they are.

    Not modulated: the output layer, biases, normalization weights, embeddings, and weights in a
    `keras_grapes.ErrorModulation`. With `model=` the groups of nodes and the output layer are found
    from the model's layers. Without it only the variables are known: every variable named `kernel`
    or `*_kernel` with two axes or more is modulated along its last axis, except the last one, which
    is taken for the output layer. Pass the model when it has other kernels than those of `Dense`
    and `Conv` layers, several outputs, or layers that were not created in the order of the graph.

    The inner optimizer belongs to this one from then on. `Grapes` has no state of its own: its
    `variables` are those of the inner optimizer, and weights files move between the two.

    `keras.optimizers.Ftrl` is not linear in its learning rate: with it each node has its own rate,
    but its step is not the factor times the plain one. `keras.optimizers.Adafactor` bounds the
    modulated rate by `1 / sqrt(step)`.

    Args:
        inner_optimizer: A `keras.optimizers.Optimizer`, its name such as `"adam"`, or its config.
        model: A built `keras.Model`, the one that is trained. Defaults to `None`.
        modulation: A `keras_grapes.Modulation`. Defaults to `None`, GRAPES with its defaults.
        name: String. Defaults to `"grapes"`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `inner_optimizer` is itself a wrapper or already in use by a `Grapes`, if
            `model` is not built, or if the optimizer is later built with variables that are not
            those of `model`.

    References:
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), Eq. 1 to 4.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, activation="relu"),
    ...     keras.layers.Dense(3, activation="softmax"),
    ... ])
    >>> model.compile(
    ...     optimizer=kg.Grapes(keras.optimizers.SGD(0.1), model=model),
    ...     loss="sparse_categorical_crossentropy",
    ... )
    """

    def __init__(self, inner_optimizer, model=None, modulation=None, name="grapes", **kwargs):
        if kwargs:
            argument = next(iter(kwargs))
            raise ValueError(
                f"`Grapes` does not take `{argument}`. Set `{argument}` on the `inner_optimizer`, "
                f"as in Grapes(keras.optimizers.Adam({argument}=...))."
            )
        inner_optimizer = _get_inner_optimizer(inner_optimizer)
        modulation = Modulation.get(modulation)
        variable_grouping = NameGrouping() if model is None else ModelGrouping(model)
        super().__init__(learning_rate=0.0, name=name)
        self.modulation = modulation
        self._grouping = variable_grouping
        self._step = _Step()
        self._plain_update_step = inner_optimizer.update_step
        inner_optimizer.update_step = self._modulated_update_step
        self.inner_optimizer = inner_optimizer

    def build(self, variables):
        if self.built:
            return
        variables = list(variables)
        groups, left_alone = _leave_out_error_modulated(self._grouping, variables)
        self.inner_optimizer.build(variables)
        super().build(variables)
        if left_alone:
            names = [grouping.path_of(group.kernels[0]) for group in left_alone]
            warnings.warn(
                f"`Grapes` leaves {len(names)} kernels alone whose error `ErrorModulation` "
                f"modulates already: {names}. Use one of the two, or call "
                "`keras_grapes.strip(model)`.",
                stacklevel=2,
            )
        self._step.groups = groups
        for group in groups:
            for index, kernel in enumerate(group.kernels):
                # Not a variable where LoRA or quantization compute it.
                if backend.is_variable(kernel):
                    self._step.place_of.setdefault(self._var_key(kernel), (group, index))

    @property
    def groups(self):
        """List of the `keras_grapes.grouping.Group`s whose nodes are modulated, once built."""
        return list(self._step.groups)

    @property
    def trainable_variables(self):
        """List of the variables that the optimizer was built with."""
        return list(self._trainable_variables)

    def find_groups(self, model):
        """Returns the `groups` that the optimizer will have once built for `model`."""
        return _leave_out_error_modulated(self._grouping, model.trainable_variables)[0]

    def apply(self, grads, trainable_variables=None):
        if len(grads) == 0:
            return
        if not self.built:
            if trainable_variables is None:
                raise ValueError(
                    "When passing `grads` without `variables`, the optimizer must already be "
                    "built. Call `optimizer.build(trainable_variables)` first."
                )
            with keras.name_scope(self.name, caller=self):
                self.build(trainable_variables)
        # All factors before the first update, so that the kernels of a group see the same weights.
        self._step.factors = {id(g): g.factor(self.modulation) for g in self._step.groups}
        try:
            self.inner_optimizer.apply(grads, trainable_variables)
        finally:
            self._step.factors = {}

    def apply_gradients(self, grads_and_vars):
        super().apply_gradients(grads_and_vars)
        return self.iterations

    def _modulated_update_step(self, gradient, variable, learning_rate):
        """Runs as `inner_optimizer.update_step`."""
        place = self._step.place_of.get(self._var_key(variable))
        if place is not None and self._step.factors:
            group, index = place
            factor = group.over_kernel(self._step.factors[id(group)], index)
            learning_rate = ops.cast(learning_rate, factor.dtype) * factor
            if backend.is_sparse_gradient(gradient):
                # Optimizers pick the rows of the rate that the gradient has.
                learning_rate = ops.broadcast_to(learning_rate, variable.shape)
            learning_rate = ops.cast(learning_rate, variable.dtype)
        return self._plain_update_step(gradient, variable, learning_rate)

    # The state and the settings are those of the inner optimizer.

    def __dir__(self):
        # Keras's savers walk over `dir`: without this they would write the inner optimizer's
        # state a second time.
        return [name for name in super().__dir__() if name != "inner_optimizer"]

    @property
    def variables(self):
        return self.inner_optimizer.variables

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def loss_scale_factor(self):
        return self.inner_optimizer.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor):
        # Keras's own `__init__` sets it to None before there is an inner optimizer.
        if hasattr(self, "inner_optimizer"):
            self.inner_optimizer.loss_scale_factor = factor

    @property
    def _model_variables_moving_average(self):
        return self.inner_optimizer._model_variables_moving_average

    def set_weights(self, weights):
        self.inner_optimizer.set_weights(weights)

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        self.inner_optimizer.exclude_from_weight_decay(var_list=var_list, var_names=var_names)

    def get_config(self):
        # The base class's config holds only arguments that belong to the inner optimizer.
        return {
            "name": self.name,
            "inner_optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "modulation": keras.saving.serialize_keras_object(self.modulation),
            "groups": self._grouping.get_config(self._trainable_variables if self.built else None),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        groups = config.pop("groups", None)
        config["inner_optimizer"] = keras.saving.deserialize_keras_object(
            config["inner_optimizer"], custom_objects=custom_objects
        )
        optimizer = cls(**config)
        if groups is not None:
            optimizer._grouping = StoredGrouping(groups)
        return optimizer


class _Step:
    """What an update step needs. A plain object, so that Keras does not track what it holds.

    Attributes:
        groups: List of the groups that are modulated.
        place_of: Dict of the key of a variable to its group and its index in the group.
        factors: Dict of the id of a group to its factors in the step that is under way.
    """

    def __init__(self):
        self.groups = []
        self.place_of = {}
        self.factors = {}


class NameGrouping:
    """Finds the groups among an optimizer's variables by their names."""

    layers = None

    def find(self, variables):
        return grouping.group_by_name(variables)

    def get_config(self, built_with):
        return None


class ModelGrouping:
    """Finds the groups among an optimizer's variables by the layers of a model."""

    def __init__(self, model):
        if not isinstance(model, keras.Model):
            raise TypeError(
                "`model` must be a `keras.Model`. Received: "
                f"model={model!r} of type {type(model).__name__}"
            )
        if not model.built or not model.weights:
            raise ValueError(
                f"`model` must be built, so that its layers have weights. Received: model "
                f"'{model.name}', which is not. Give it a `keras.Input`, call "
                "`model.build(input_shape)` or call it on data before you make the optimizer."
            )
        self.model_name = model.name
        self.layers = graph.all_layers(model)
        self.weights = model.weights
        self.groups = _hidden_groups(grouping.weight_layers(model))

    def find(self, variables):
        known = {backend.variable_key(v) for v in self.weights}
        foreign = [v.name for v in variables if backend.variable_key(v) not in known]
        if foreign:
            raise ValueError(
                f"The optimizer was made for model '{self.model_name}' but is built with "
                f"variables that are not that model's, such as {foreign[:3]}. Pass the model that "
                "is trained, as in Grapes(..., model=model), and make a new optimizer after you "
                "change or clone a model."
            )
        given = {backend.variable_key(v) for v in variables}
        return [g for g in self.groups if any(backend.variable_key(k) in given for k in g.kernels)]

    def get_config(self, built_with):
        return _describe(self, built_with or self.weights)


class StoredGrouping:
    """Finds the groups where a saved optimizer had them, by the positions of its variables."""

    layers = None

    def __init__(self, config):
        self.config = config

    def find(self, variables):
        groups = []
        for entry in self.config:
            places, shapes = entry["variables"], entry["shapes"]
            fits = all(
                place is not None
                and place < len(variables)
                and tuple(variables[place].shape) == tuple(shape)
                for place, shape in zip(places, shapes)
            )
            if not fits:
                raise ValueError(
                    "This optimizer was restored for a model whose kernels have the shapes "
                    f"{shapes} at the positions {places} of its trainable variables; the model "
                    "that it is built with has not. Make a new one: Grapes(..., model=model)."
                )
            kernels = [variables[place] for place in places]
            axes = [tuple(axes) for axes in entry["incoming_axes"]]
            groups.append(grouping.Group(kernels, axes))
        return groups

    def get_config(self, built_with):
        return self.config if built_with is None else _describe(self, built_with)


def _describe(variable_grouping, variables):
    """The groups by their places among the variables that are trained now, as a loaded model will
    have them: layers may have been frozen, or thawed, in the meantime."""
    trained = [v for v in variables if v.trainable]
    place_of = {backend.variable_key(v): place for place, v in enumerate(trained)}
    groups = variable_grouping.find(variables)
    return [
        {
            "variables": [place_of.get(backend.variable_key(k)) for k in group.kernels],
            "shapes": [list(k.shape) for k in group.kernels],
            "incoming_axes": [list(axes) for axes in group.incoming_axes],
        }
        for group in groups
        if any(backend.variable_key(k) in place_of for k in group.kernels)
    ]


def _hidden_groups(entries):
    """Groups of all nodes that are not output nodes; shared weights count at the output."""
    output = {
        backend.variable_key(k)
        for e in entries
        for g in e.groups
        if e.is_output_group(g)
        for k in g.kernels
    }
    return [
        group
        for entry in entries
        for group in entry.groups
        if not any(backend.variable_key(k) in output for k in group.kernels)
    ]


def _leave_out_error_modulated(variable_grouping, variables):
    """Splits groups into those to modulate and those that an `ErrorModulation` has."""
    groups = variable_grouping.find(variables)
    elsewhere = grouping.error_modulated(variable_grouping.layers)
    marked = [any(backend.variable_key(k) in elsewhere for k in g.kernels) for g in groups]
    keep = [group for group, mark in zip(groups, marked) if not mark]
    leave = [group for group, mark in zip(groups, marked) if mark]
    return keep, leave


def _get_inner_optimizer(identifier):
    inner = identifier
    if isinstance(identifier, (str, dict)):
        try:
            inner = keras.optimizers.get(identifier)
        except ValueError as error:
            raise ValueError(
                "`inner_optimizer` must name an optimizer of Keras, such as 'adam', or be its "
                f"config. Received: inner_optimizer={identifier!r}"
            ) from error
    if not isinstance(inner, keras.optimizers.Optimizer):
        hint = " Pass an instance: write `()` after it." if isinstance(inner, type) else ""
        raise TypeError(
            "`inner_optimizer` must be a `keras.optimizers.Optimizer`, its name or its config."
            f"{hint} Received: inner_optimizer={identifier!r} of type {type(identifier).__name__}"
        )
    # A wrapper has no `update_step` of its own, so that the factor would silently not act.
    if type(inner).apply is not keras.optimizers.Optimizer.apply:
        name = type(inner).__name__
        raise ValueError(
            f"`inner_optimizer` must not be a wrapper itself. Received: a `{name}`. Wrap the other "
            f"way round, so that `{name}` holds `Grapes(optimizer)`. Under mixed precision "
            "`model.compile` adds its `LossScaleOptimizer` by itself."
        )
    if isinstance(getattr(inner.update_step, "__self__", None), Grapes):
        raise ValueError(
            f"`inner_optimizer` '{inner.name}' is in use by another `Grapes`. Make a new inner "
            "optimizer for each."
        )
    return inner
