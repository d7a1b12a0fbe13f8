"""The networks of the paper, as the library and Keras offer them, from the settings of a run."""

import keras

import keras_grapes as kg
from examples.paper.settings import ARMS

OPTIMIZERS = {
    "SGD": lambda rate: keras.optimizers.SGD(rate),
    "momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "Nesterov": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
    "RMSprop": lambda rate: keras.optimizers.RMSprop(rate, rho=0.9, epsilon=1e-8),
    "Adam": lambda rate: keras.optimizers.Adam(rate, epsilon=1e-8),
}
RULES = {
    "FA": kg.FeedbackAlignment,
    "DFA": kg.DirectFeedbackAlignment,
    "IFA": kg.IndirectFeedbackAlignment,
}


def build(settings, shape, classes):
    """Returns the model that a run trains, not compiled; its seed gives its weights.

    Args:
        settings: `Settings`.
        shape: Tuple, the shape of an image.
        classes: Int.
    """
    keras.utils.set_random_seed(settings.seed)
    model = _NETWORKS[settings.network](settings, shape, classes)
    modulation = modulation_of(settings)
    if settings.rule != "BP":
        return RULES[settings.rule](model, modulation=modulation, seed=settings.seed)
    if modulation is not None and settings.version == "propagating":
        return kg.propagate(model, modulation)
    return model


def compile_model(model, settings):
    """Compiles a model that `build` has made."""
    optimizer = OPTIMIZERS[settings.optimizer](settings.learning_rate)
    modulation = modulation_of(settings)
    if modulation is not None and settings.rule == "BP" and settings.version == "local":
        optimizer = kg.Grapes(optimizer, model=model, modulation=modulation)
    loss, accuracy = LOSSES[loss_of(settings)]
    model.compile(optimizer, loss=loss, metrics=[accuracy(name="accuracy")])
    model.optimizer.build(model.trainable_variables)


def modulation_of(settings):
    """The `kg.Modulation` of an arm, `None` for plain training."""
    arm = ARMS[settings.arm]
    return None if arm is None else kg.Modulation(bounds=settings.bounds, **arm)


def loss_of(settings):
    if settings.network in ("SNU", "SSNU"):
        return "mean_squared_error"
    return {"softmax": "sparse_categorical_crossentropy", "sigmoid": "binary_crossentropy"}[
        settings.output
    ]


# Losses on class numbers; all others compare with one-hot labels.
SPARSE = ("sparse_categorical_crossentropy",)
LOSSES = {
    "sparse_categorical_crossentropy": (
        "sparse_categorical_crossentropy",
        keras.metrics.SparseCategoricalAccuracy,
    ),
    "binary_crossentropy": ("binary_crossentropy", keras.metrics.CategoricalAccuracy),
    "mean_squared_error": ("mean_squared_error", keras.metrics.CategoricalAccuracy),
}


def _dense(settings, shape, classes):
    initializer = "he_uniform" if settings.activation == "relu" else "glorot_uniform"
    shared = {"use_bias": settings.bias, "kernel_initializer": initializer}
    layers = [keras.Input(shape)]
    if len(shape) > 1:
        layers += [*_deformations(settings), keras.layers.Flatten()]
    for number, units in enumerate(settings.hidden, start=1):
        layers.append(
            keras.layers.Dense(
                units, activation=settings.activation, name=f"hidden_{number}", **shared
            )
        )
        if settings.dropout:
            layers.append(keras.layers.Dropout(settings.dropout))
    layers.append(keras.layers.Dense(classes, settings.output, name="output", **shared))
    return keras.Sequential(layers)


def _deformations(settings):
    """Layers that deform training images at random, by Keras's own preprocessing."""
    if settings.deformation == "affine":
        # Degrees and shares of the size.
        yield keras.layers.RandomAffine(
            rotation=15, translate=0.1, scale=0.1, shear=10, fill_mode="constant"
        )
    elif settings.deformation == "elastic":
        yield keras.layers.RandomElasticTransform(
            factor=1.0, scale=1.0, fill_mode="constant", value_range=(0, 1)
        )


_NETWORKS = {"dense": _dense}
