"""The networks of the paper, as the library and Keras offer them, from the settings of a run."""

import keras

import keras_grapes as kg
from examples.paper.dropout import Dropout
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
    "SF": kg.SignConcordantFeedback,
}


# Of weights in hardware; the initial ones of a layer with 256 inputs reach 0.15.
WEIGHT_RANGE = 0.5


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
        model = RULES[settings.rule](model, modulation=modulation, seed=settings.seed)
    elif modulation is not None and settings.version == "propagating":
        model = kg.propagate(model, modulation)
    constraints = _constraints(settings)
    return kg.hardware.constrain(model, constraints) if constraints else model


def _constraints(settings):
    """What the weights are held to by the hardware."""
    found = []
    if settings.noise:
        found.append(kg.hardware.UpdateNoise(settings.noise, WEIGHT_RANGE, seed=settings.seed))
    if settings.bits:
        found.append(
            kg.hardware.FixedPoint(settings.bits, WEIGHT_RANGE, "stochastic", seed=settings.seed)
        )
    return found


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
        return "squared_error"
    return {"softmax": "sparse_categorical_crossentropy", "sigmoid": "binary_crossentropy"}[
        settings.output
    ]


def _squared_error(labels, outputs):
    """Summed over the outputs, not their mean, which is Keras's."""
    return keras.ops.sum(keras.ops.square(labels - outputs), axis=-1)


# Losses on class numbers; all others compare with one-hot labels.
SPARSE = ("sparse_categorical_crossentropy",)
LOSSES = {
    "sparse_categorical_crossentropy": (
        "sparse_categorical_crossentropy",
        keras.metrics.SparseCategoricalAccuracy,
    ),
    "binary_crossentropy": ("binary_crossentropy", keras.metrics.CategoricalAccuracy),
    "squared_error": (_squared_error, keras.metrics.CategoricalAccuracy),
}


def _seed(settings, number):
    """The seed of a dropout layer: the same in all arms of a run."""
    return 1000 * settings.seed + number


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
            layers.append(Dropout(settings.dropout, seed=_seed(settings, number)))
    layers.append(keras.layers.Dense(classes, settings.output, name="output", **shared))
    return keras.Sequential(layers)


def _deformations(settings):
    """Layers that deform training images at random, by Keras's own preprocessing."""
    if "affine" in settings.deformation:
        # Shares of a turn and of the size.
        yield keras.layers.RandomRotation(0.04, fill_mode="constant")
        yield keras.layers.RandomTranslation(0.08, 0.08, fill_mode="constant")
        yield keras.layers.RandomZoom(0.1, fill_mode="constant")
    if "elastic" in settings.deformation:
        if not hasattr(keras.layers, "RandomElasticTransform"):
            raise ValueError(
                f"elastic deformation needs a newer Keras than {keras.__version__}, one with "
                "`keras.layers.RandomElasticTransform`"
            )
        yield keras.layers.RandomElasticTransform(
            factor=1.0, scale=0.3, fill_mode="constant", value_range=(0, 1)
        )


# The spiking units silence deep layers with the ReLU that is their default: a silent unit passes no
# error back.
_INPUT_ACTIVATION = {"SNU": "leaky_relu", "SSNU": "linear"}
# Of a pixel of 1, to spike in a time step.
_RATE = 0.3


def _spiking(settings, shape, classes):
    unit = getattr(kg, settings.network)
    layers = [
        unit(
            units,
            input_activation=_INPUT_ACTIVATION[settings.network],
            reset=settings.reset,
            return_sequences=True,
            name=name,
        )
        for units, name in [
            *((units, f"hidden_{n}") for n, units in enumerate(settings.hidden, start=1)),
            (classes, "output"),
        ]
    ]
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            kg.RateCoding(
                settings.steps, _RATE, test_steps=settings.test_steps, seed=settings.seed
            ),
            *layers,
            keras.layers.GlobalAveragePooling1D(),
        ]
    )


def _residual(settings, shape, classes):
    """Eight convolutions in two residual blocks and one dense layer, as in Table 1."""

    def convolution(x, filters):
        x = keras.layers.Conv2D(
            filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal"
        )(x)
        return keras.layers.ReLU()(keras.layers.BatchNormalization()(x))

    width = settings.filters
    inputs = keras.Input(shape)
    x = convolution(inputs, width)
    for filters, deep in ((2 * width, 2 * width), (4 * width, 8 * width)):
        if filters != deep:
            x = keras.layers.MaxPooling2D()(convolution(x, filters))
            filters = deep
        x = keras.layers.MaxPooling2D()(convolution(x, filters))
        x = keras.layers.add([x, convolution(convolution(x, filters), filters)])
    x = keras.layers.GlobalMaxPooling2D()(x)
    x = Dropout(settings.dropout, seed=_seed(settings, 1))(x)
    outputs = keras.layers.Dense(classes, "softmax", use_bias=settings.bias)(x)
    return keras.Model(inputs, outputs)


def _convolutional(settings, shape, classes):
    """Two convolutions and two dense layers, with Keras's defaults."""
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(classes, "softmax"),
        ]
    )


def _recurrent(settings, shape, classes):
    """An LSTM that reads an image row by row, with Keras's defaults."""
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Reshape((shape[0], -1)),
            keras.layers.LSTM(64),
            keras.layers.Dense(classes, "softmax"),
        ]
    )


_NETWORKS = {
    "dense": _dense,
    "SNU": _spiking,
    "SSNU": _spiking,
    "residual": _residual,
    "convolutional": _convolutional,
    "recurrent": _recurrent,
}
