"""What the feedback models share: a forward pass that opens the layers with kernels."""

import abc
import functools
from typing import Any

import keras
from keras import ops

from keras_grapes import backend, graph
from keras_grapes.checks import check_seed
from keras_grapes.modulation import Modulation
from keras_grapes.training import initialization
from keras_grapes.types import Array, Initializer
from keras_grapes.wiring import Wiring

__all__ = ["FeedbackModel"]


class FeedbackModel(keras.Model, abc.ABC):
    """Base class of the models that transport errors in another way than back-propagation.

    The forward pass is that of the wrapped model. A rule is another backward pass: `stop_gradient`
    cuts the layers with kernels from their inputs, and `route_error` says which errors replace
    those of back-propagation. Everything between these layers is differentiated as usual. What
    happens to the gradients is up to Keras, so that your own training loop follows the rule too.

    A rule of your own overrides `feedback_shapes` and `route_error`; one that is close to another
    rule overrides `FeedbackAlignment.backward_kernel` or `DirectFeedbackAlignment.sent_error`. Set
    the attributes that these methods read before `super().__init__`.

    Args:
        model: A built Sequential or Functional `keras.Model`. Its weights are not copied: training
            this model trains `model`.
        modulation: A `keras_grapes.Modulation`, or `True` for `Modulation()`, GRAPES. Defaults to
            `None`, as `False` no modulation.
        feedback_initializer: A Keras initializer of the feedback kernels, its name or its config,
            or a function of a shape. Defaults to `"he_uniform"`.
        seed: Int that makes the feedback kernels reproducible. Defaults to `None`.
        **kwargs: `name` and `trainable`.

    Attributes:
        model: The wrapped model.
        wiring: The `keras_grapes.wiring.Wiring` of the model.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> class NoFeedback(kg.FeedbackModel):
    ...     "Trains the output layer alone."
    ...     def feedback_shapes(self):
    ...         return []
    ...     def route_error(self, site, inputs, outputs, current):
    ...         return outputs
    >>> rule = NoFeedback(keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(3),
    ... ]))
    >>> rule.compile("sgd", "mse")
    >>> x, y = keras.random.normal((5, 4)), keras.ops.zeros((5, 3))
    >>> [gradient is not None for gradient in rule.gradients(x, y)]
    [False, False, True, True]
    """

    def __init__(
        self,
        model: keras.Model,
        modulation: Modulation | bool | None = None,
        feedback_initializer: Initializer = "he_uniform",
        seed: int | None = None,
        **kwargs,
    ) -> None:
        wiring = Wiring(model, type(self).__name__)
        if isinstance(modulation, bool):
            modulation = Modulation() if modulation else None
        if modulation is not None:
            modulation = Modulation.get(modulation)
        seed = check_seed("seed", seed, error=TypeError)
        initializer = initialization.get_initializer(feedback_initializer)

        # No autocast: the wrapped layers cast, each by its own policy.
        super().__init__(dtype=model.dtype_policy, autocast=False, **kwargs)
        self.model = model
        self.wiring = wiring
        self.modulation = modulation
        self.feedback_initializer = initializer
        self.seed = seed
        if modulation is not None:
            self._check_nodes()
        self.check()
        named = self.feedback_shapes()
        values = initialization.draw(initializer, [shape for _, shape, _ in named], seed)
        self._kernels = [
            self.add_weight(
                name=f"feedback_{name}",
                shape=shape,
                initializer=functools.partial(_constant, value),
                dtype=dtype,
                trainable=False,
            )
            for (name, shape, dtype), value in zip(named, values)
        ]
        for place, kernel in enumerate(self._kernels):
            # `tf.train.Checkpoint` follows attributes, not the lists of Keras.
            setattr(self, f"_kernel_{place}", kernel)
        self.input_spec = self._make_input_spec()
        # A first call, so that what cannot run is refused now, and `export` knows the shapes.
        specs = [keras.KerasTensor(tensor.shape, dtype=tensor.dtype) for tensor in model.inputs]
        self._awaits_kernels = False
        self(_packed_as(self._structures[0], specs))
        self._awaits_kernels = isinstance(initializer, initialization.KernelsFromFile)

    @property
    def _structures(self):
        return graph.structures(self.model)

    @property
    def feedback_kernels(self):
        """List of the feedback kernels, in the order of the graph."""
        return list(self._kernels)

    @property
    def hidden_layers(self):
        """List of the hidden layers with a kernel, in the order of the graph."""
        return list(self.wiring.hidden_layers)

    @property
    def hidden_groups(self):
        """List of the `keras_grapes.grouping.Group`s of the nodes of the hidden layers.

        `None` stands for a layer whose nodes are not the channels of its output.
        """
        return [self.wiring.calls_of(layer)[0].group for layer in self.hidden_layers]

    @property
    def output_names(self):
        # By these `compile` assigns losses and metrics. A Sequential model has none.
        return self.model.output_names

    # What a rule says of itself.

    def check(self):
        """Raises a `ValueError` if this rule cannot train a model that other rules can."""

    @abc.abstractmethod
    def feedback_shapes(self):
        """Returns a list of `(name, shape, dtype)`, one for each feedback kernel."""

    def begin(self, current, training):
        """Prepares a forward pass, a `Pass`."""

    @abc.abstractmethod
    def route_error(self, site, inputs, outputs, current):
        """Returns the output of a layer's linear map, whose error goes where the rule sends it.

        Args:
            site: The `keras_grapes.wiring.Site`, a call of the layer.
            inputs: Tensor, the layer's input.
            outputs: Tensor, its linear map of `inputs`, ahead of bias, activation and dynamics. Its
                error goes to the kernel, and not to `inputs`: `send_error` sends it there, or
                elsewhere.
            current: The `Pass`, with the tensors of the model as far as it has come.
        """

    def factor(self, place, modulation=None):
        """Returns the modulation factors of a hidden layer's nodes now.

        Args:
            place: Int, the place of the layer among `hidden_layers`.
            modulation: A `keras_grapes.Modulation`. Defaults to `None`, that of the model.
        """
        return self.hidden_groups[place].factor(modulation or self.modulation)

    # The forward pass.

    def build(self, input_shape):
        pass  # All weights exist.

    def call(self, inputs: Any, training: bool | None = None, backpropagate: bool = False) -> Any:
        # Keras hands `training` on to the layers that are called in here.
        inputs = self._flat_inputs(inputs)
        if backpropagate:
            return self.model(_packed_as(self._structures[0], inputs), training=training)
        if self._awaits_kernels:
            raise ValueError(
                f"The feedback kernels of '{self.name}' were made by a function that no config "
                "holds, and come with the weights alone. Load them by `load_weights`, or set them "
                "by `set_weights`."
            )
        program = self.wiring.program
        current = Pass(dict(zip(program.inputs, inputs)))
        self.begin(current, training)
        self.run(current, training)
        return _packed_as(self._structures[1], [current.values[s] for s in program.outputs])

    def run(self, current, training, steps=None):
        """Fills in the tensors of a `Pass` by running steps of the model, by default all."""
        for step in self.wiring.program.steps if steps is None else steps:
            args, kwargs = step.arguments(current.values)
            site = self.wiring.site_of(step)
            if site is None:
                outputs = self.call_step(step, args, kwargs, training)
            else:
                outputs = self.call_site(site, args, kwargs, None, current, training)
            current.values.update(zip(step.outputs, keras.tree.flatten(outputs)))

    def call_step(self, step, args, kwargs, training):
        """Runs a step without a kernel."""
        training = step.training if training is None else training
        if training is not None and isinstance(step.operation, keras.layers.Layer):
            # JAX's trainer runs `call` by itself, outside of which Keras hands nothing on.
            kwargs = {**kwargs, "training": training}
        return step.operation(*args, **kwargs)

    def call_site(self, site, args, kwargs, between, current, training):
        """Calls a layer with a kernel; `between`, where given, makes what its linear map does."""

        def linear(inputs):
            outputs = site.linear.apply(ops.stop_gradient(inputs), *site.kernels)
            return self.route_error(site, inputs, outputs, current)

        def after(outputs):
            self._regularize_activity(site.layer, outputs)
            if self.modulation is None or not self.wiring.is_hidden(site):
                return outputs
            return self._modulate(site, outputs, current)

        training = site.step.training if training is None else training
        return site.call(args, kwargs, between or linear, after, training)

    def _modulate(self, site, outputs, current):
        place = self._place(site.layer)
        if place not in current.factors:
            current.factors[place] = self.factor(place)
        factor = current.factors[place]

        def modulated(output):
            aligned = site.group.over_output(factor, output.shape)

            def errors(error):
                # The product is rounded once, to the precision of the error.
                return [ops.cast(ops.cast(error, aligned.dtype) * aligned, error.dtype)]

            return send_error(ops.stop_gradient(output), [output], errors)

        # The states of a recurrent layer are its nodes too.
        return keras.tree.map_structure(modulated, outputs)

    def _place(self, layer):
        return next(i for i, one in enumerate(self.wiring.hidden_layers) if one is layer)

    def _regularize_activity(self, layer, outputs):
        if layer.activity_regularizer is None:
            return
        for output in keras.tree.flatten(outputs):
            loss = layer.activity_regularizer(output)
            if _regularizes_the_mean():
                loss = ops.divide_no_nan(loss, ops.cast(ops.shape(output)[0], loss.dtype))
            self.add_loss(loss)

    def _check_nodes(self):
        for site in self.wiring.sites:
            if not self.wiring.is_hidden(site):
                continue
            problem = "its nodes are not the channels of its output"
            try:
                if site.group is not None:
                    ones = ops.ones(site.group.node_shape)
                    for slot in site.step.outputs:
                        site.group.over_output(ones, slot.shape)
                    continue
            except ValueError as error:
                problem = str(error)
            raise ValueError(
                f"`{type(self).__name__}` with a `modulation` cannot tell the nodes of layer "
                f"'{site.layer.name}' of type {type(site.layer).__name__}: {problem}. Tell them by "
                "`keras_grapes.register_grouping`, or pass modulation=None."
            )

    def _make_input_spec(self):
        tensors = self.model.inputs
        if len(tensors) == 1 and not isinstance(self._structures[0], dict):
            return keras.layers.InputSpec(shape=tuple(tensors[0].shape))
        return [
            keras.layers.InputSpec(shape=tuple(tensor.shape), name=name)
            for tensor, name in zip(tensors, self._input_names())
        ]

    def _input_names(self):
        if isinstance(self._structures[0], dict):
            return sorted(self._structures[0])
        return [graph.tensor_name(tensor) for tensor in self.model.inputs]

    def _flat_inputs(self, inputs):
        if isinstance(inputs, dict):
            inputs = [inputs[name] for name in self._input_names()]
        flat = keras.tree.flatten(inputs)
        if len(flat) != len(self.model.inputs):
            raise ValueError(
                f"'{self.name}' takes {len(self.model.inputs)} inputs. Received: {len(flat)}"
            )
        return [
            x
            if keras.backend.standardize_dtype(x.dtype) == tensor.dtype
            else ops.cast(x, tensor.dtype)
            for x, tensor in zip(flat, self.model.inputs)
        ]

    def gradients(
        self, x: Array, y: Array, sample_weight: Array | None = None, backpropagate: bool = False
    ) -> list:
        """Returns the gradients of the rule for a batch; nothing changes.

        The forward pass is that of inference: no dropout, and the moving statistics of batch
        normalization.

        Args:
            x: Tensor or array, a batch of inputs.
            y: Tensor or array, the targets.
            sample_weight: Tensor or array of weights of the samples. Defaults to `None`.
            backpropagate: Bool, whether to return the gradients of back-propagation, for
                comparison. Defaults to `False`.

        Returns:
            List of tensors in the order of `trainable_weights`, of the loss of `compile`.
        """

        def loss():
            y_pred = self(x, training=False, backpropagate=backpropagate)
            return self.compute_loss(x, y, y_pred, sample_weight, training=False)

        return backend.gradients(loss, self.trainable_weights)[1]

    def compile(self, optimizer="rmsprop", *args, **kwargs):
        optimizer = keras.optimizers.get(optimizer)
        for one in all_optimizers(optimizer):
            modulates = isinstance(getattr(one, "modulation", None), Modulation)
            if modulates and self.modulation is not None:
                raise ValueError(
                    "`optimizer` must not be a `Grapes` where the model has a `modulation`: every "
                    "error would be modulated twice. Received: optimizer="
                    f"{type(optimizer).__name__} '{optimizer.name}' and modulation="
                    f"{self.modulation}. Pass the inner optimizer, or make the model with "
                    "modulation=None."
                )
        super().compile(optimizer, *args, **kwargs)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def compute_output_shape(self, input_shape):
        return self.model.compute_output_shape(input_shape)

    # Saving.

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self._awaits_kernels = False

    def set_weights(self, weights):
        super().set_weights(weights)
        self._awaits_kernels = False

    def get_config(self) -> dict:
        modulation = self.modulation
        return {
            "name": self.name,
            "trainable": self.trainable,
            "model": keras.saving.serialize_keras_object(self.model),
            "modulation": modulation and keras.saving.serialize_keras_object(modulation),
            "feedback_initializer": initialization.serialize(self.feedback_initializer),
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["model"] = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        config["feedback_initializer"] = initialization.deserialize(
            config["feedback_initializer"], custom_objects
        )
        return cls(**config)


class Pass:
    """One forward pass through a model.

    Attributes:
        values: Dict of the `keras_grapes.graph.Slot`s that have been computed to their tensors.
        factors: Dict of the places of hidden layers to their factors.
    """

    def __init__(self, values):
        self.values = values
        self.factors = {}


def all_optimizers(optimizer):
    """Lists an optimizer and those that it wraps, at every depth."""
    inner = getattr(optimizer, "inner_optimizer", None)
    wrapped = [*getattr(optimizer, "optimizers", ()), *([] if inner is None else [inner])]
    return [optimizer, *(one for each in wrapped for one in all_optimizers(each))]


def send_error(output, targets, errors, after=()):
    """Returns `output` unchanged; the error that arrives at it goes to `targets` too.

    Args:
        output: Tensor. Its error passes unchanged.
        targets: List of tensors that get errors.
        errors: Function from the error at `output` to the list of the errors at `targets`, each
            shaped as its target. It must not read tensors that depend on trained weights, unless
            through `stop_gradient`.
        after: List of tensors to compute before the error goes on. Defaults to none.

    Returns:
        Tensor, equal to `output`.
    """

    def pass_on(output, *targets):
        def backward(error):
            error = backend.identity(error, after=after)
            return (error, *errors(error))

        return output, backward

    return backend.custom_gradient(pass_on)(output, *targets)


@functools.cache
def _regularizes_the_mean():
    """Whether Keras takes an activity regularizer's mean over the batch; 3.9 took the sum."""
    with backend.eagerly():
        layer = keras.layers.Activation("linear", activity_regularizer=ops.sum)
        layer(ops.ones((2, 1)))
        return float(layer.losses[0]) == 1.0


def _packed_as(structure, flat):
    """Packs tensors as a model's inputs or outputs; one alone stands for itself unless named."""
    if len(flat) == 1 and not isinstance(structure, dict):
        return flat[0]
    return keras.tree.pack_sequence_as(structure, flat)


def _constant(value, shape, dtype=None):
    return ops.convert_to_tensor(value, dtype=dtype)
