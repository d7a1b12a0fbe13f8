"""Sign-concordant feedback: each error goes one layer down, by the signs of the weights alone."""

import keras
from keras import ops

from keras_grapes.modulation import Modulation
from keras_grapes.training import initialization
from keras_grapes.training.feedback_alignment import FeedbackAlignment
from keras_grapes.types import Initializer

__all__ = ["SignConcordantFeedback"]

_MAGNITUDES = ("uniform", "fixed", "batch")


@keras.saving.register_keras_serializable(package="keras_grapes")
class SignConcordantFeedback(FeedbackAlignment):
    """Trains a model by feedback that shares the signs of the weights, and not their magnitudes.

    As `keras_grapes.FeedbackAlignment`, with a feedback kernel that follows the signs of the
    layer's kernel while it learns: `B = sign(W) * |M|`. The magnitudes `M` are, by `magnitude`,

    | `magnitude` | `M`                                                | known as |
    |-------------|----------------------------------------------------|----------|
    | `"uniform"` | one number for a layer                             | uSF      |
    | `"fixed"`   | random, drawn once                                 | frSF     |
    | `"batch"`   | random, drawn anew for every batch of the training | brSF     |

    The number of `"uniform"` is the root mean square of what the initializer draws;
    `feedback_initializer="ones"` makes it 1.

    Args:
        model: As in `keras_grapes.FeedbackAlignment`, and so are all other arguments.
        magnitude: String, one of the table. Defaults to `"uniform"`.
        modulation: A `keras_grapes.Modulation`, or `True` for GRAPES with its defaults. Defaults to
            `None`, no modulation.
        feedback_initializer: A Keras initializer of the magnitudes, its name or its config, or a
            function of a shape; for `magnitude="batch"` a Keras initializer. Defaults to
            `"he_uniform"`.
        seed: Int that makes the magnitudes reproducible. Defaults to `None`.
        **kwargs: `name` and `trainable`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: As `keras_grapes.FeedbackAlignment`; if `magnitude` is none of the table; and if
            an initializer without a `seed` is given for `magnitude="batch"`.

    Attributes:
        model: The wrapped model.
        magnitudes: List of the magnitudes as non-trainable variables, saved with the model.
        feedback_kernels: List of the feedback kernels as they are now, tensors of the shapes of
            `keras_grapes.FeedbackAlignment`.

    References:
        - [Liao et al., 2016](https://arxiv.org/abs/1510.05067).
        - [Moskovitz et al., 2018](https://arxiv.org/abs/1812.06488).

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, activation="relu"),
    ...     keras.layers.Dense(3, activation="softmax"),
    ... ])
    >>> rule = kg.SignConcordantFeedback(model, magnitude="fixed", seed=0)
    >>> rule.compile("sgd", loss="sparse_categorical_crossentropy")
    >>> same = rule.feedback_kernels[0] * model.layers[-1].kernel >= 0
    >>> bool(keras.ops.all(same))
    True
    """

    def __init__(
        self,
        model: keras.Model,
        magnitude: str = "uniform",
        modulation: Modulation | bool | None = None,
        feedback_initializer: Initializer = "he_uniform",
        seed: int | None = None,
        **kwargs,
    ) -> None:
        if not isinstance(magnitude, str) or magnitude not in _MAGNITUDES:
            raise ValueError(
                f"`magnitude` must be one of {list(_MAGNITUDES)}. Received: magnitude={magnitude!r}"
            )
        self.magnitude = magnitude
        super().__init__(model, modulation, feedback_initializer, seed, **kwargs)

    def check(self):
        super().check()
        if self.magnitude != "batch":
            return
        self._seeds = keras.random.SeedGenerator(self.seed)
        try:
            self._fresh = initialization.with_seed(self.feedback_initializer, self._seeds)
        except ValueError as error:
            raise ValueError(
                '`magnitude="batch"` draws anew for every batch, and takes a Keras initializer '
                "with a `seed`, such as `keras.initializers.HeUniform()`. Received: "
                f"feedback_initializer={self.feedback_initializer!r}"
            ) from error

    @property
    def magnitudes(self):
        """List of the magnitudes, in the order of `feedback_kernels`."""
        return list(self._kernels)

    @property
    def feedback_kernels(self):
        """List of the feedback kernels as they are now, in the order of the graph."""
        kernels = {}
        for site in self.wiring.sites:
            if site.depends:
                kernels.update((id(kernel), kernel) for kernel in site.linear.kernels)
        return [
            self.backward_kernel(ops.convert_to_tensor(kernel), ops.convert_to_tensor(drawn))
            for kernel, drawn in zip(kernels.values(), self._kernels)
        ]

    def backward_kernel(self, kernel, feedback):
        magnitude = ops.abs(feedback)
        if self.magnitude == "uniform":
            magnitude = ops.sqrt(ops.mean(ops.square(magnitude)))
        return ops.sign(kernel) * ops.cast(magnitude, kernel.dtype)

    def begin(self, current, training):
        if self.magnitude == "batch" and training:
            for kernel in self._kernels:
                kernel.assign(self._fresh(kernel.shape, dtype=kernel.dtype))

    def save_own_variables(self, store):
        super().save_own_variables(store)
        if self.magnitude == "batch":
            # Of seeds Keras saves no state.
            store["seeds"] = ops.convert_to_numpy(self._seeds.state)

    def load_own_variables(self, store):
        own = {name: store[name] for name in store.keys()}
        seeds = own.pop("seeds", None)
        if seeds is not None and self.magnitude == "batch":
            self._seeds.state.assign(seeds)
        super().load_own_variables(own)

    def get_config(self) -> dict:
        return {**super().get_config(), "magnitude": self.magnitude}
