"""Size on the disk of what `kg.export_saved_model` and Keras's own `export` write."""

import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from examples import command_line

command_line.import_tensorflow()

# ruff: noqa: E402 (TensorFlow is imported quietly first)
import keras
from keras import layers

import keras_grapes as kg


def dense_network():
    hidden = [layers.Dense(256, activation="relu") for _ in range(4)]
    return keras.Sequential([keras.Input((784,)), *hidden, layers.Dense(10, activation="softmax")])


def convolutional_network():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def spiking_network():
    return keras.Sequential(
        [
            keras.Input((784,)),
            kg.RateCoding(20, rate=0.3),
            *[kg.SNU(units, return_sequences=True) for units in (256, 256, 10)],
            layers.GlobalAveragePooling1D(),
        ]
    )


MODELS = {
    "784-4x256-10, propagated": lambda: kg.propagate(dense_network()),
    "784-4x256-10, direct feedback alignment": lambda: kg.DirectFeedbackAlignment(dense_network()),
    "28x28 convolutional, 32-64-128-10, propagated": lambda: kg.propagate(convolutional_network()),
    "784-256-256-10 spiking units with rate coding, propagated": lambda: kg.propagate(
        spiking_network()
    ),
}


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main():
    command_line.Parser(description=__doc__).parse_args()
    print(f"{'':58}{'bytes':>10}{'model.export':>14}{'ratio':>7}")
    for name, make in MODELS.items():
        model = make()
        with tempfile.TemporaryDirectory() as folder:
            ours, keras_own = (pathlib.Path(folder) / kind for kind in ("ours", "keras"))
            kg.export_saved_model(model, ours)
            model.export(keras_own, verbose=False)
            sizes = size(ours), size(keras_own)
        print(f"{name:58}{sizes[0]:>10}{sizes[1]:>14}{sizes[1] / sizes[0]:>7.2f}", flush=True)


if __name__ == "__main__":
    command_line.run(main)
