"""The networks that `feedback_alignment.py` trains by the feedback rules."""

import dataclasses
import typing

# Filters of the two stages of the residual network, whose second one halves the map.
STAGES = (8, 16)
SPIKING_UNITS = (128, 128)
TIME_STEPS = 20


@dataclasses.dataclass(frozen=True)
class Network:
    """A network to train.

    Args:
        title: String, how it is printed.
        build: Function of the shape of an image and the number of classes.
        rules: Tuple of the names of the rules that it is trained by.
        learning_rate: Float that all of them stand.
        loss: String; for `"mse"` the labels become one-hot.
    """

    title: str
    build: typing.Callable
    rules: tuple
    learning_rate: float
    loss: str = "sparse_categorical_crossentropy"


def dense(hidden_units):
    """A fully connected tanh network."""

    def build(shape, classes):
        import keras

        hidden = [
            keras.layers.Dense(units, activation="tanh", name=f"hidden_{number}")
            for number, units in enumerate(hidden_units, start=1)
        ]
        return keras.Sequential(
            [
                keras.Input(shape),
                keras.layers.Flatten(),
                *hidden,
                keras.layers.Dense(classes, activation="softmax", name="output"),
            ]
        )

    title = "-".join(str(units) for units in hidden_units) + " tanh"
    return Network(title, build, ("BP", "FA", "DFA", "IFA"), 0.02)


def residual():
    """Ten layers with kernels: a convolution, four residual blocks of two, and the output."""

    def build(shape, classes):
        import keras
        from keras import layers

        def convolution(x, filters, name, strides=1):
            x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False, name=name)(x)
            return layers.BatchNormalization(momentum=0.9)(x)

        inputs = keras.Input(shape)
        x = layers.Activation("tanh")(convolution(inputs, STAGES[0], "stem"))
        for number, filters in enumerate((STAGES[0], STAGES[0], STAGES[1], STAGES[1]), start=1):
            shrinks = filters != x.shape[-1]
            skip = x
            if shrinks:
                # Half the places and twice the channels, without a kernel.
                skip = layers.AveragePooling2D(2, padding="same")(x)
                skip = layers.Concatenate()([skip, skip])
            x = convolution(x, filters, f"block_{number}_a", 2 if shrinks else 1)
            x = convolution(layers.Activation("tanh")(x), filters, f"block_{number}_b")
            x = layers.Activation("tanh")(layers.Add()([x, skip]))
        # A mean over the map would leave DFA at chance: it sends each place an error of its own.
        x = layers.Flatten()(x)
        return keras.Model(inputs, layers.Dense(classes, activation="softmax", name="output")(x))

    return Network("residual tanh, 10 layers", build, ("BP", "FA", "DFA", "SF"), 0.01)


def spiking():
    """Three layers of spiking units; the outputs are their mean rates."""

    def build(shape, classes):
        import keras

        import keras_grapes as kg

        def units(count, name):
            # With the unit's own ReLU and decay the deeper layers stay silent.
            return kg.SNU(
                count, decay=0.9, input_activation="leaky_relu", return_sequences=True, name=name
            )

        hidden = [
            units(count, f"hidden_{number}") for number, count in enumerate(SPIKING_UNITS, start=1)
        ]
        return keras.Sequential(
            [
                keras.Input(shape),
                keras.layers.Flatten(),
                kg.RateCoding(TIME_STEPS, rate=0.3),
                *hidden,
                units(classes, "output"),
                keras.layers.GlobalAveragePooling1D(),
            ]
        )

    title = "-".join(str(units) for units in SPIKING_UNITS) + f" SNU, {TIME_STEPS} time steps"
    return Network(title, build, ("BP", "FA", "DFA", "SF"), 1.0, "mse")
