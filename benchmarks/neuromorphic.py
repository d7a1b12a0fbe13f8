"""What a spiking network on digits gives on hardware: its accuracy in few bits, and its operations.

A network 784-256-10 of leaky integrate-and-fire units is trained on rate-coded digits, with free
weights and with weights of few bits. The table has the test accuracy of the Keras model, of the
same spikes through the network that comes back from its NIR file, and of the first test images
through TensorFlow Lite, as it is and quantized by the converter; and the synaptic operations of an
image with their energy, against the multiplications of a network without spikes.

    python benchmarks/neuromorphic.py
    python benchmarks/neuromorphic.py --dataset digits --epochs 20
"""

import functools
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from examples import command_line, data

command_line.import_tensorflow()

# ruff: noqa: E402 (TensorFlow is imported quietly first)
import keras
import numpy as np
import tensorflow as tf

import keras_grapes as kg

UNITS = 256
RATE = 0.3
BATCH = 128
# Of the weights; `None` trains them as they are.
BITS = (None, 8, 4)
# Images through TensorFlow Lite, which takes one at a time.
LITE = 1000
MULTIPLY_ACCUMULATE = 4.6e-12


def main():
    parser = command_line.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=data.NAMES, help="default: MNIST if it can be had")
    parser.add_counts(
        ("--epochs", 3, "epochs of training"),
        ("--steps", 20, "time steps of an image"),
    )
    arguments = parser.parse_args()
    digits = data.load_for(parser, arguments.dataset).flattened()
    print("weights | Keras | NIR, read | TF Lite | TF Lite, 8 bits | syn. ops | energy")
    for bits in BITS:
        print(" | ".join(measure(digits, bits, arguments)), flush=True)
    features = digits.train[0].shape[1]
    dense = features * UNITS + UNITS * digits.classes
    print(
        f"a network without spikes, {features}-{UNITS}-{digits.classes}: {dense:,} "
        f"multiplications, {1e9 * dense * MULTIPLY_ACCUMULATE:.0f} nJ"
    )


def measure(digits, bits, arguments):
    """Trains one network. Returns a row of the table."""
    keras.utils.set_random_seed(0)
    (x_train, y_train), (x_test, y_test) = digits.train, digits.test
    features = x_train.shape[1]
    lif = {"decay": 0.9, "input_activation": "linear", "return_sequences": True}
    model = keras.Sequential(
        [
            keras.Input((features,)),
            kg.RateCoding(arguments.steps, rate=RATE, seed=0),
            kg.SNU(UNITS, name="hidden", **lif),
            kg.SNU(digits.classes, name="output", **lif),
        ]
    )
    if bits is not None:
        rounding = kg.hardware.FixedPoint(bits, range=0.5, rounding="stochastic", seed=0)
        model = kg.hardware.constrain(model, rounding)
    model.compile(
        keras.optimizers.Adam(1e-3),
        kg.losses.SpikeCountCrossentropy(scale=0.5),
        metrics=[kg.metrics.SpikeAccuracy()],
    )
    model.fit(x_train, y_train, batch_size=BATCH, epochs=arguments.epochs, verbose=0)
    network = keras.Sequential([keras.Input((arguments.steps, features)), *model.layers[1:]])
    spikes = np.asarray(kg.rate_code(x_test, arguments.steps, RATE, seed=1))

    def accuracy(outputs):
        metric = kg.metrics.SpikeAccuracy()
        metric.update_state(y_test[: len(outputs)], outputs)
        return f"{100 * float(metric.result()):.2f} %"

    through_lite = functools.partial(convert_and_run, network, spikes[:LITE])

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "network.nir")
        kg.export_nir(network, path)
        read = kg.import_nir(path)
    counted = kg.analysis.synaptic_operations(network, spikes[:LITE])
    return [
        "free" if bits is None else f"{bits} bits",
        accuracy(network.predict(spikes, batch_size=500, verbose=0)),
        accuracy(read.predict(spikes, batch_size=500, verbose=0)),
        *(accuracy(through_lite(quantized)) for quantized in (False, True)),
        f"{counted.total:,.0f}",
        f"{1e9 * counted.energy:.1f} nJ",
    ]


def convert_and_run(network, spikes, quantized):
    """Outputs of a network that TensorFlow Lite has converted, image by image."""

    def unrolled(layer):
        config = layer.get_config()
        if isinstance(layer, kg.SNU):
            config["unroll"] = True
        return type(layer).from_config(config)

    copy = keras.models.clone_model(network, clone_function=unrolled)
    copy.set_weights(network.get_weights())
    one = keras.Sequential([keras.Input(batch_shape=(1, *spikes.shape[1:])), *copy.layers])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "1")
        kg.export_saved_model(one, path)
        converter = tf.lite.TFLiteConverter.from_saved_model(path)
        if quantized:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        lite = tf.lite.Interpreter(model_content=converter.convert())
    lite.allocate_tensors()
    given = lite.get_input_details()[0]["index"]
    taken = lite.get_output_details()[0]["index"]
    outputs = []
    for sample in spikes:
        lite.set_tensor(given, sample[None])
        lite.invoke()
        outputs.append(lite.get_tensor(taken)[0])
    return np.array(outputs)


if __name__ == "__main__":
    command_line.run(main)
