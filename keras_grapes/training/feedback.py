"""What the feedback models share: the forward pass in blocks, and errors sent on other ways."""

import abc
import dataclasses
import functools
import inspect
import math
import numbers
import random

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_grapes.modulation import Modulation
from keras_grapes.training.chain import Block, Chain


class FeedbackModel(keras.Model, abc.ABC):
    """Base class of the models that transport errors by fixed feedback kernels.

    The forward pass is that of the wrapped model. A rule is nothing but another backward pass: the
    blocks of the model are cut apart by `stop_gradient`, and `route_error` says which errors come
    in place of the ones that back-propagation would bring. Whatever is done with the gradients is
    Keras's own, so that a training loop of one's own with `tf.GradientTape` trains by the rule too.
    """

    def __init__(
        self, model, modulation=None, feedback_initializer="he_uniform", seed=None, **kwargs
    ):
        rule = type(self).__name__
        chain = Chain(model, rule)
        if modulation is False:
            modulation = None
        if modulation is not None:
            modulation = Modulation.get(modulation)
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, numbers.Integral)):
            raise TypeError(f"`seed` must be an int or None. Received: seed={seed!r}")
        initializer = _get_initializer(feedback_initializer)
        self._check(chain, modulation)
        feedback = _draw(initializer, self._feedback_shapes(chain), seed)

        # No autocast: the wrapped layers cast, each by its own policy.
        super().__init__(dtype=model.dtype_policy, autocast=False, **kwargs)
        self.model = model
        self.modulation = modulation
        self.feedback_initializer = initializer
        self.seed = None if seed is None else int(seed)
        self._chain = chain
        self._input_dtype = model.inputs[0].dtype
        self._kernels = [
            self.add_weight(
                name=f"feedback_{block.layer.name}",
                shape=value.shape,
                initializer=functools.partial(_constant, value),
                dtype=block.layer.variable_dtype,
                trainable=False,
            )
            for block, value in zip(chain.hidden, feedback)
        ]
        for place, kernel in enumerate(self._kernels):
            # `tf.train.Checkpoint` follows attributes, not the lists of Keras.
            setattr(self, f"_kernel_{place}", kernel)
        self.input_spec = keras.layers.InputSpec(shape=tuple(model.inputs[0].shape))
        # A first call, so that what cannot run is refused now, and `export` knows the shapes.
        self(keras.KerasTensor(model.inputs[0].shape, dtype=self._input_dtype))

    @property
    def feedback_kernels(self):
        """List of the feedback kernels, that of the first hidden layer first."""
        return list(self._kernels)

    @property
    def hidden_layers(self):
        """List of the hidden layers with a kernel, the first one first."""
        return [block.layer for block in self._chain.hidden]

    @property
    def output_names(self):
        # By these `compile` assigns losses and metrics. A Sequential model has none.
        return self.model.output_names

    def _check(self, chain, modulation):
        """Raises a `ValueError` where the rule cannot train a chain that the others can."""

    @abc.abstractmethod
    def _feedback_shapes(self, chain):
        """Shapes of the feedback kernels."""

    @abc.abstractmethod
    def _route_error(self, current, passed):
        """Returns the pre-activation of `current`, its error sent on as the rule has it.

        Args:
            current: The `Pass` through a block, as far as it has come.
            passed: List of the `Pass`es through the blocks before it.
        """

    def factor(self, place, modulation=None):
        """Returns the modulation factors of a hidden layer's nodes now.

        Args:
            place: Int, the place of the layer among `hidden_layers`.
            modulation: A `keras_grapes.Modulation`. Defaults to `None`, that of the model.
        """
        return self._chain.hidden[place].group.factor(modulation or self.modulation)

    def build(self, input_shape):
        pass  # All weights exist.

    def call(self, inputs, training=None, backpropagate=False):
        # Keras hands `training` on to the layers that are called in here.
        (x,) = keras.tree.flatten(inputs)
        if backpropagate:
            return self.model(x)
        x = ops.cast(x, self._input_dtype)
        for step in self._chain.entry:
            x = step.layer(x)
        passed = []
        for block in self._chain.blocks:
            current = Pass(block, x, block.pre_activation(ops.stop_gradient(x)))
            current.pre_activation = self._route_error(current, passed)
            current.output = self._activate(current, len(passed))
            x = current.run(block.moving, current.output)
            passed.append(current)
        structure = getattr(self.model, "output", None)
        return keras.tree.pack_sequence_as(structure, [x]) if isinstance(structure, dict) else x

    def _activate(self, current, place):
        """Runs a block from its pre-activation to the last step that changes values."""
        block, x = current.block, current.pre_activation
        if block.layer.activation is not None:
            x = block.layer.activation(x)
        if block.layer.activity_regularizer is not None:
            self._regularize_activity(block.layer, x)
        if self.modulation is not None and block is not self._chain.output:
            x = self._modulate(x, current, place)
        return current.run(block.local, x)

    def _modulate(self, x, current, place):
        group = self._chain.hidden[place].group
        factor = current.factor = group.over_output(self.factor(place), x.shape)

        def modulated(error):
            # The product is rounded once, to the precision of the error.
            return [ops.cast(ops.cast(error, factor.dtype) * factor, error.dtype)]

        return send_error(ops.stop_gradient(x), [x], modulated)

    def _regularize_activity(self, layer, x):
        loss = layer.activity_regularizer(x)
        if _regularizes_the_mean():
            loss = ops.divide_no_nan(loss, ops.cast(ops.shape(x)[0], loss.dtype))
        self.add_loss(loss)

    def gradients(self, x, y, sample_weight=None, backpropagate=False):
        """Returns the gradients that the rule gives for a batch, with nothing changed by it.

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
        with tf.GradientTape() as tape:
            y_pred = self(x, training=False, backpropagate=backpropagate)
            loss = self.compute_loss(x, y, y_pred, sample_weight, training=False)
        return tape.gradient(loss, self.trainable_weights)

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

    def get_config(self):
        modulation = self.modulation
        return {
            "name": self.name,
            "trainable": self.trainable,
            "model": keras.saving.serialize_keras_object(self.model),
            "modulation": modulation and keras.saving.serialize_keras_object(modulation),
            "feedback_initializer": keras.saving.serialize_keras_object(self.feedback_initializer),
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["model"] = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        return cls(**config)


def all_optimizers(optimizer):
    """Lists an optimizer and those that it wraps, at every depth."""
    inner = getattr(optimizer, "inner_optimizer", None)
    wrapped = [*getattr(optimizer, "optimizers", ()), *([] if inner is None else [inner])]
    return [optimizer, *(one for each in wrapped for one in all_optimizers(each))]


@dataclasses.dataclass(eq=False)
class Pass:
    """One forward pass through a block.

    Attributes:
        block: The `Block`.
        inputs: Tensor, its input.
        pre_activation: Tensor, the output of its layer ahead of the activation.
        output: Tensor behind the last step that changes values; there the block's error arrives.
        factor: Tensor of modulation factors; `None` where there is no modulation.
        step_inputs: Dict of the inputs of its `Step`s.
    """

    block: Block
    inputs: tf.Tensor
    pre_activation: tf.Tensor
    output: tf.Tensor = None
    factor: tf.Tensor = None
    step_inputs: dict = dataclasses.field(default_factory=dict)

    def run(self, steps, x):
        for step in steps:
            self.step_inputs[step] = x
            x = step.layer(x)
        return x


def send_error(output, targets, errors, after=()):
    """Returns `output` unchanged; the error that arrives at it goes to `targets` too.

    Args:
        output: Tensor. Its error passes unchanged.
        targets: List of tensors that get errors.
        errors: Function from the error at `output` to the list of the errors at `targets`, each
            shaped as its target.
        after: List of tensors to compute before the error goes on. Defaults to none.

    Returns:
        Tensor, equal to `output`.
    """

    @tf.custom_gradient
    def pass_on(output, *targets):
        def backward(error):
            with tf.control_dependencies(after):
                error = tf.identity(error)
            return (error, *errors(error))

        return output, backward

    return pass_on(output, *targets)


def project(error, feedback, target):
    """Brings the output error to a hidden layer by a feedback kernel `(values there, outputs)`."""
    error = ops.reshape(error, (-1, feedback.shape[1]))
    projected = ops.matmul(error, ops.transpose(ops.cast(feedback, error.dtype)))
    return ops.cast(ops.reshape(projected, ops.shape(target)), target.dtype)


def projection_shape(chain, block, rule):
    """Shape of the kernel that `project` takes for the output of a hidden block."""
    for part, shape in ((block, block.map_shape), (chain.output, chain.output.shape)):
        if None in shape:
            raise ValueError(
                f"`{rule}` needs to know how many values layer '{part.layer.name}' of type "
                f"{type(part.layer).__name__} puts out, and got the shape {shape}. Give the sizes "
                "to `keras.Input`."
            )
    return math.prod(block.map_shape), math.prod(chain.output.shape)


@functools.cache
def _regularizes_the_mean():
    """Whether Keras takes an activity regularizer's mean over the batch; 3.9 took the sum."""
    with tf.init_scope():
        layer = keras.layers.Activation("linear", activity_regularizer=ops.sum)
        layer(ops.ones((2, 1)))
        return float(layer.losses[0]) == 1.0


def _get_initializer(identifier):
    problem = None
    try:
        initializer = keras.initializers.get(identifier)
    except (TypeError, ValueError) as error:
        initializer, problem = None, error
    if initializer is None:
        raise ValueError(
            "`feedback_initializer` must be a Keras initializer, its name or its config. Received: "
            f"feedback_initializer={identifier!r}"
        ) from problem
    return initializer


def _draw(initializer, shapes, seed):
    """Draws an array of each shape, each from a seed of its own."""
    seeded = []
    config = {}
    if isinstance(initializer, keras.initializers.Initializer):
        config = initializer.get_config()
    if "seed" in config:
        if seed is None:
            seed = config["seed"] if isinstance(config["seed"], int) else random.getrandbits(31)
        for child in np.random.SeedSequence(int(seed)).generate_state(len(shapes)):
            seeded.append(type(initializer).from_config({**config, "seed": int(child) >> 1}))
    drawn = []
    for draw, shape in zip(seeded or [initializer] * len(shapes), shapes):
        takes_dtype = "dtype" in inspect.signature(draw).parameters
        try:
            value = draw(shape, dtype="float32") if takes_dtype else draw(shape)
        except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
            raise ValueError(
                f"`feedback_initializer` makes no feedback kernel of the shape {tuple(shape)}: "
                f"{error}"
            ) from error
        value = ops.convert_to_numpy(value)
        if value.shape != tuple(shape):
            raise ValueError(
                "`feedback_initializer` must return an array of the shape that it is asked for. "
                f"Received: a feedback kernel of shape {value.shape} where {tuple(shape)} is "
                "needed"
            )
        drawn.append(value)
    return drawn


def _constant(value, shape, dtype=None):
    return ops.convert_to_tensor(value, dtype=dtype)
