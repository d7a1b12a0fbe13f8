"""Optimizer wrapper that lets every node learn at its own modulated rate."""

import contextlib
import threading
import warnings
from collections.abc import Sequence

import keras
from keras import ops

from keras_grapes import backend, keras_hooks
from keras_grapes.groups import error_modulated, path_of
from keras_grapes.keras_hooks import StateOfInner, of_inner
from keras_grapes.modulation import Modulation
from keras_grapes.optimizers.inner_optimizer import (
    check_rate_is_used,
    get_inner_optimizer,
    is_kerass_own,
    refuse_unreached,
)
from keras_grapes.optimizers.variable_grouping import ModelGrouping, NameGrouping, StoredGrouping

__all__ = ["Grapes"]


@keras.saving.register_keras_serializable(package="keras_grapes")
class Grapes(StateOfInner, keras.optimizers.Optimizer):
    """Optimizer that wraps another one and modulates its learning rate node by node.

    This is the local version of GRAPES: the kernel weights that enter node `n` of a hidden layer
    learn with the rate `learning_rate * m[n]`, where the factor `m[n]` is computed from the weights
    as they are before the step. For every optimizer whose step is linear in its learning rate this
    multiplies the weight update by the modulation matrix of the paper. Momentum accumulates
    modulated steps; weight decay, clipping, constraints, moving averages and gradient accumulation
    are those of the inner optimizer, and stay as they are.

    Not modulated: the output layer, biases, normalization weights, embeddings, LoRA adapters, and
    weights in a `keras_grapes.ErrorModulation`. With `model=` the groups of nodes and the output
    layer are found from the model's layers. Without it only the variables are known: every variable
    named `kernel` or `*_kernel` with two axes or more is modulated along its last axis, except the
    last one, which is taken for the output layer. Pass the model when it has other kernels than
    those of `Dense` and `Conv` layers, several outputs, or layers that were not created in the
    order of the graph.

    The inner optimizer belongs to this one from then on. `Grapes` has no state of its own: its
    `variables` and settings, such as `weight_decay`, are those of the inner optimizer, and weights
    files move between the two. A saved `Grapes` finds its kernels again by their paths and shapes.

    `keras.optimizers.Ftrl` is not linear in its learning rate: with it each node has its own rate,
    but its step is not the factor times the plain one. Of `keras.optimizers.ScheduleFreeAdamW` it
    is not either, from the third step on, since its weights are an average that the rate does not
    scale. `keras.optimizers.Adafactor` bounds the modulated rate by `1 / sqrt(step)`. An optimizer
    of your own is modulated if it takes the rate from the argument `learning_rate` of its
    `update_step`.

    Args:
        inner_optimizer: A `keras.optimizers.Optimizer`, its name such as `"adam"`, or its config.
        model: A built `keras.Model`, the one that is trained. Defaults to `None`.
        modulation: A `keras_grapes.Modulation`. Defaults to `Modulation()`, GRAPES.
        name: String. Defaults to `None`, an automatic name such as `"grapes"`.
        output_layers: List of layers of `model`, or of their names or paths, that compute its
            outputs and are not modulated; an empty one modulates all. Needed where they cannot be
            told from a graph, as in subclassed models, where `keras_grapes.summary` marks them as
            guessed. Defaults to `None`, to find them.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `inner_optimizer` is itself a wrapper, in use by a `Grapes` or does not use
            the rate that its `update_step` is given, if `model` is not built, if `output_layers`
            are not layers of it, or if the optimizer is later built with kernels that are not
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

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer | str | dict,
        model: keras.Model | None = None,
        modulation: Modulation = Modulation(),
        name: str | None = None,
        *,
        output_layers: Sequence[keras.layers.Layer | str] | None = None,
        **kwargs,
    ) -> None:
        if kwargs:
            argument = next(iter(kwargs))
            raise ValueError(
                f"`Grapes` does not take `{argument}`. Set `{argument}` on the `inner_optimizer`, "
                f"as in Grapes(keras.optimizers.Adam({argument}=...))."
            )
        inner_optimizer = get_inner_optimizer(inner_optimizer)
        if isinstance(getattr(inner_optimizer.update_step, "__self__", None), Grapes):
            raise ValueError(
                f"`inner_optimizer` '{inner_optimizer.name}' is in use by another `Grapes`. Make a "
                "new inner optimizer for each."
            )
        modulation = Modulation.get(modulation)
        if model is None and output_layers is not None:
            raise ValueError(
                "`output_layers` are layers of a model. Received: "
                f"output_layers={output_layers!r} and model=None. Pass the model too: "
                "Grapes(..., model=model, output_layers=[...])."
            )
        variable_grouping: NameGrouping | ModelGrouping | StoredGrouping = NameGrouping()
        if model is not None:
            variable_grouping = ModelGrouping(model, output_layers)
        super().__init__(learning_rate=0.0, name=name)
        self.modulation = modulation
        self._grouping = variable_grouping
        self._step = _Step(is_reached=is_kerass_own(inner_optimizer))
        backend.update_one_by_one(inner_optimizer)
        self._plain_update_step = keras_hooks.replace_update_step(
            inner_optimizer, self._modulated_update_step
        )
        self.inner_optimizer = inner_optimizer

    def build(self, variables):
        variables = list(variables)
        # Keras's loader of `.h5` files builds with none.
        if self.built or not variables:
            return
        groups, left_alone, notes = self._find(variables)
        self.inner_optimizer.build(variables)
        if left_alone:
            names = [path_of(group.kernels[0]) for group in left_alone]
            notes.append(
                f"`Grapes` leaves {len(names)} kernels alone whose error `ErrorModulation` "
                f"modulates already: {names}. Use one of the two, or call "
                "`keras_grapes.strip(model)`."
            )
        for note in notes:
            warnings.warn(note, stacklevel=2)
        self._step.groups = groups
        known = {backend.variable_key(variable) for variable in variables}
        for place, group in enumerate(groups):
            for index, (kernel, key) in enumerate(zip(group.variables, group.keys)):
                if key in known:
                    position = keras_hooks.variable_index(self.inner_optimizer, kernel)
                    self._step.places.setdefault(position, (place, index))
        if self._step.places and not self._step.is_reached:
            kernel = self._trainable_variables[min(self._step.places)]
            name = type(self.inner_optimizer).__name__
            check_rate_is_used(self._plain_update_step, kernel, name)
        self.built = True

    @property
    def groups(self):
        """List of the `keras_grapes.grouping.Group`s whose nodes are modulated, once built."""
        return list(self._step.groups)

    @property
    def trainable_variables(self):
        """List of the variables that the optimizer was built with."""
        return list(self._trainable_variables) if self.built else []

    @property
    def output_guessed(self):
        """Whether the order of the kernels alone tells which of them are not modulated."""
        return self._grouping.output_guessed

    def output_layers_of(self, model):
        """Returns the `output_layers` that it was given with a model, `None` for another one.

        A saved optimizer knows them again in the loaded model.
        """
        return self._grouping.output_layers_of(model)

    def find_groups(self, model):
        """Returns the `groups` that the optimizer will have once built for `model`."""
        return self._find(model.trainable_variables)[0]

    def _find(self, variables):
        """Groups to modulate, those that an `ErrorModulation` has, and notes for the user."""
        groups, notes = self._grouping.find(variables)
        elsewhere = error_modulated(self._grouping.layers)
        keep = [group for group in groups if not elsewhere & set(group.keys)]
        leave = [group for group in groups if elsewhere & set(group.keys)]
        return keep, leave, notes

    def apply(self, grads, trainable_variables=None):
        if len(grads) == 0:
            return
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
        with self._step_of(grads, trainable_variables):
            self.inner_optimizer.apply(grads, trainable_variables)

    def apply_gradients(self, grads_and_vars):
        inner = self.inner_optimizer
        if type(inner).apply_gradients is keras.optimizers.Optimizer.apply_gradients:
            super().apply_gradients(grads_and_vars)
            return self.iterations
        # It does something of its own to the gradients.
        grads_and_vars = list(grads_and_vars)
        with self._step_of(*zip(*grads_and_vars)):
            return inner.apply_gradients(grads_and_vars)

    @contextlib.contextmanager
    def _step_of(self, grads, variables=None):
        """Has the factors ready, and looks afterwards whether they took part."""
        if variables is None and not self.built:
            raise ValueError(
                "When passing `grads` without `variables`, the optimizer must already be "
                "built. Call `optimizer.build(trainable_variables)` first."
            )
        self.build(variables or [])
        step = self._step
        watched = None if step.is_reached else self._watched_kernel(grads, variables)
        eager = backend.runs_eagerly()
        before = None if watched is None or not eager else ops.convert_to_numpy(watched)
        # All factors before the first update, so that the kernels of a group see the same weights.
        with step.has_factors([group.factor(self.modulation) for group in step.groups]):
            yield
        if watched is None or step.is_reached:
            return
        # An eager step that only accumulates gradients changes nothing.
        if not eager or (before != ops.convert_to_numpy(watched)).any():
            refuse_unreached(type(self.inner_optimizer).__name__)

    def _watched_kernel(self, grads, variables):
        """The first modulated kernel that has a gradient."""
        variables = self._trainable_variables if variables is None else variables
        self._check_variables_are_known(variables)
        for gradient, variable in zip(grads, variables):
            position = keras_hooks.variable_index(self.inner_optimizer, variable)
            overwritten = getattr(variable, "overwrite_with_gradient", False)
            if gradient is not None and position in self._step.places and not overwritten:
                return variable
        return None

    def _modulated_update_step(self, gradient, variable, learning_rate):
        """Runs as `inner_optimizer.update_step`."""
        place = self._step.places.get(keras_hooks.variable_index(self.inner_optimizer, variable))
        if place is not None:
            self._step.is_reached = True
            group_place, index = place
            group, factors = self._step.groups[group_place], self._step.factors()
            factor = factors[group_place] if factors else group.factor(self.modulation)
            factor = group.over_kernel(factor, index)
            learning_rate = ops.cast(learning_rate, factor.dtype) * factor
            if backend.is_sparse_gradient(gradient):
                # Optimizers pick the rows of the rate that the gradient has.
                learning_rate = ops.broadcast_to(learning_rate, variable.shape)
            learning_rate = ops.cast(learning_rate, variable.dtype)
        return self._plain_update_step(gradient, variable, learning_rate)

    # The state and the settings are those of the inner optimizer.

    weight_decay = of_inner("weight_decay")
    clipnorm = of_inner("clipnorm")
    global_clipnorm = of_inner("global_clipnorm")
    clipvalue = of_inner("clipvalue")
    use_ema = of_inner("use_ema")
    ema_momentum = of_inner("ema_momentum")
    ema_overwrite_frequency = of_inner("ema_overwrite_frequency")
    gradient_accumulation_steps = of_inner("gradient_accumulation_steps")
    loss_scale_factor = of_inner("loss_scale_factor")
    learning_rate = of_inner("learning_rate")
    iterations = property(lambda self: self.inner_optimizer.iterations)
    variables = property(lambda self: self.inner_optimizer.variables)

    def __dir__(self):
        # Its state is that of the inner optimizer, which would be saved a second time.
        return keras_hooks.attributes_to_save(super().__dir__(), hidden="inner_optimizer")

    def set_weights(self, weights):
        self.inner_optimizer.set_weights(weights)

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        self.inner_optimizer.exclude_from_weight_decay(var_list=var_list, var_names=var_names)

    def get_config(self) -> dict:
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
        places: Dict of the position of a variable in the inner optimizer to the place of its group
            in `groups` and its index in the group.
        is_reached: Bool, whether the inner optimizer is known to call its `update_step`.
    """

    def __init__(self, is_reached):
        self.groups = []
        self.places = {}
        self.is_reached = is_reached
        self._factors_of_thread = {}

    @contextlib.contextmanager
    def has_factors(self, factors):
        """Keeps the factors of a step while it runs; each thread takes steps of its own."""
        thread = threading.get_ident()
        self._factors_of_thread[thread] = factors
        try:
            yield
        finally:
            del self._factors_of_thread[thread]

    def factors(self):
        """Returns the factors of this thread's step, `None` where none is under way.

        With several replicas the updates of all run in another thread than the replicas' own,
        which have equal factors.
        """
        running = dict(self._factors_of_thread)
        return running.get(threading.get_ident()) or next(reversed(running.values()), None)
