"""Rate coding: values as the rates of random spike trains."""

import keras
from keras import ops

from keras_grapes import backend, random
from keras_grapes.checks import check_positive_int, check_seed, is_number
from keras_grapes.layers.encodings import values
from keras_grapes.types import Array, Tensor

__all__ = ["RateCoding", "rate_code"]


def rate_code(
    x: Array, steps: int, rate: float = 1.0, seed: int | keras.random.SeedGenerator | None = None
) -> Tensor:
    """Turns values between 0 and 1 into random spike trains.

    At every time step, independently, a value `x` spikes with the probability `rate * x`.

    Args:
        x: Array or tensor `(batch, ...)` of values from 0 to 1, such as the pixels of images
            divided by 255.
        steps: Positive int, number of time steps.
        rate: Float from 0 to 1, the probability per time step that a value of 1 spikes. Defaults
            to 1.
        seed: Int, the same spikes for every call; or a `keras.random.SeedGenerator`. Defaults to
            `None`, other spikes for every call.

    Returns:
        Tensor `(batch, steps, ...)` of 0 and 1, of the dtype of `x` where that is a float, else of
        Keras's default float.

    Raises:
        TypeError: If `x` is not of numbers.
        ValueError: If `steps` or `rate` is not one of the values above; or if values lie outside
            0 to 1, NaN among them.
        InvalidArgumentError: If they do within a function that is a graph, as in `fit`, `predict`
            and `tf.data`. Integers are refused while it is made. XLA knows no errors: compiled by
            it, with `jit_compile=True`, and in TFLite, all spikes of a sample that has such
            values are NaN.

    Example:

    >>> import keras_grapes as kg
    >>> spikes = kg.rate_code([[0.0, 0.5, 1.0]], steps=4, seed=0)
    >>> spikes.shape
    TensorShape([1, 4, 3])
    >>> spikes[0, :, 2].numpy()
    array([1., 1., 1., 1.], dtype=float32)
    """
    check_positive_int("steps", steps)
    _check_rate(rate)
    x = _numbers(x)
    dtype = keras.backend.standardize_dtype(x.dtype)
    if len(x.shape) == 0:
        raise ValueError(f"`x` must have a batch axis. Received: x={x}")
    values.refuse_integers(x, "Rate coding")
    dtype = dtype if "float" in dtype else keras.config.floatx()

    def draw(x):
        shape = ops.shape(x)
        draws = random.uniform((shape[0], steps, *shape[1:]), seed)
        return ops.cast(draws < rate * x[:, None], dtype)

    return values.shares("Rate coding").encode(x, draw)


@keras.saving.register_keras_serializable(package="keras_grapes")
class RateCoding(keras.layers.Layer):
    """Layer that turns values between 0 and 1 into random spike trains.

    At every time step, independently, a value `x` spikes with the probability `rate * x`. Every
    call, in training and in inference, draws new spikes. It has no weights; no error passes
    through it. To use it in `tf.data`, map `lambda x, y: (coding(x, training=True), y)`.

    Args:
        steps: Positive int, number of time steps.
        rate: Float from 0 to 1, the probability per time step that a value of 1 spikes. Defaults
            to 1.
        test_steps: Positive int, number of time steps when not training. Defaults to `None`, as
            many as `steps`.
        seed: Int that makes the sequence of draws reproducible. Defaults to `None`.

    Call arguments:
        inputs: Tensor `(batch, ...)` of values from 0 to 1.
        training: Bool, whether to run for `steps` or for `test_steps`.

    Returns:
        Tensor `(batch, time, ...)` of 0 and 1.

    Raises:
        ValueError: If an argument is not one of the values above, or if values lie outside 0 to 1;
            see `keras_grapes.rate_code` for what happens in `fit`, under XLA and in TFLite.

    References:
        - [Wozniak et al., 2020](https://doi.org/10.1038/s42256-020-0187-0), Methods.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> coding = kg.RateCoding(steps=20, rate=0.3, test_steps=300)
    >>> images = keras.ops.ones((2, 28, 28))
    >>> coding(images, training=True).shape
    TensorShape([2, 20, 28, 28])
    >>> coding(images).shape
    TensorShape([2, 300, 28, 28])
    """

    def __init__(
        self,
        steps: int,
        rate: float = 1.0,
        test_steps: int | None = None,
        seed: int | None = None,
        **kwargs,
    ) -> None:
        check_positive_int("steps", steps)
        _check_rate(rate)
        if test_steps is not None:
            check_positive_int("test_steps", test_steps)
        seed = check_seed("seed", seed)
        super().__init__(**kwargs)
        self.steps = int(steps)
        self.rate = float(rate)
        self.test_steps = None if test_steps is None else int(test_steps)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        # Checkpoints of TensorFlow do not look into seed generators.
        self._checkpointed = backend.checkpointed(seed_state=self.seed_generator.state)
        # A subclass may have a `build` of its own.
        self.built = type(self).build is keras.layers.Layer.build

    def call(self, inputs: Tensor, training: bool | None = False) -> Tensor:
        steps = self.steps if training or self.test_steps is None else self.test_steps
        return ops.cast(
            rate_code(inputs, steps, self.rate, self.seed_generator), self.compute_dtype
        )

    def compute_output_shape(self, input_shape):
        steps = self.steps if self.test_steps in (None, self.steps) else None
        return (input_shape[0], steps, *input_shape[1:])

    # Keras does not save the state of seed generators: a model that is loaded would repeat draws.

    def save_own_variables(self, store):
        store["seed_state"] = self.seed_generator.state

    def load_own_variables(self, store):
        self.seed_generator.state.assign(store["seed_state"])

    def get_config(self) -> dict:
        config = super().get_config()
        config.update(steps=self.steps, rate=self.rate, test_steps=self.test_steps, seed=self.seed)
        return config


def _check_rate(rate):
    if not (is_number(rate) and 0 <= rate <= 1):
        raise ValueError(
            "`rate` must be a number from 0 to 1, the probability of a spike per time step. "
            f"Received: rate={rate!r}"
        )


def _numbers(x):
    try:
        tensor = ops.convert_to_tensor(x)
    except (TypeError, ValueError):
        tensor = None
    if tensor is None or tensor.dtype == "string":
        raise TypeError(f"`x` must be an array or tensor of numbers. Received: x={x!r}")
    return tensor
