"""What a trained spiking network gives at each station on its way to a server and a device.

The model is one that `examples/spiking_mnist.py` has saved. A server gets it with its rate coding,
as a SavedModel; a device the network alone, unrolled, by TensorFlow Lite: as it is, with weights of
8 bits, and with all arithmetic in 8 bits. For each the accuracy on the test images, the median time
of a request of one image, and the size of the files.

    python examples/spiking_mnist.py --preset full
    python benchmarks/shipping.py
    python benchmarks/shipping.py --model runs/digits/model.keras --dataset digits
"""

import dataclasses
import functools
import os
import pathlib
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from examples import command_line, data

command_line.import_tensorflow()

# ruff: noqa: E402 (TensorFlow is imported quietly first)
import keras
import numpy as np
import tensorflow as tf

import keras_grapes as kg

# Images that the converter looks at to choose the ranges of 8 bits.
SAMPLES = 200
REQUESTS = 100


def main():
    warnings.filterwarnings("ignore", message=r"(?s).*tf\.lite\.Interpreter is deprecated")
    parser = command_line.Parser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model",
        type=command_line.folder_path,
        default=pathlib.Path("runs/spiking_mnist/model.keras"),
        help="default: runs/spiking_mnist/model.keras",
    )
    parser.add_argument("--dataset", choices=data.NAMES, help="default: MNIST if it can be had")
    parser.add_counts(("--images", 1000, "test images on the device, which takes one at a time"))
    arguments = parser.parse_args()
    if not arguments.model.exists():
        parser.error(f"--model: there is no {arguments.model}; run examples/spiking_mnist.py")
    digits = data.load_for(parser, arguments.dataset).flattened()
    model = keras.models.load_model(arguments.model)
    stations = [*on_a_server(model, digits), *on_a_device(model, digits, arguments.images)]
    times = {station.name: [] for station in stations}
    for _ in range(REQUESTS):
        # In turn: what else the machine does hits all alike.
        for station in stations:
            start = time.perf_counter()
            station.request()
            times[station.name].append(time.perf_counter() - start)
    print("station                    | accuracy | ms for one image | kB")
    for station in stations:
        milliseconds = 1000 * statistics.median(times[station.name])
        size = "" if station.size is None else f"{station.size / 1000:.0f}"
        print(
            f"{station.name:26} | {100 * station.accuracy:6.2f} % | {milliseconds:16.2f} | {size}"
        )


@dataclasses.dataclass(frozen=True)
class Station:
    """Where the model is on its way.

    Args:
        name: String.
        accuracy: Float.
        request: Function without arguments that classifies one image.
        size: Int, the bytes of its files. Defaults to `None`.
    """

    name: str
    accuracy: float
    request: Callable
    size: int | None = None


def on_a_server(model, digits):
    """Keras and the SavedModel, which make their own spikes."""
    x, y = digits.test
    outputs = model.predict(x, batch_size=500, verbose=0)
    yield Station("Keras", correct(outputs, y), lambda: model.predict_on_batch(x[:1]))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "served"
        kg.export_saved_model(model, path)
        serve = tf.saved_model.load(str(path)).signatures["serving_default"]
        (given,) = serve.structured_input_signature[1]
        outputs = [answer(serve, given, x[i : i + 500]) for i in range(0, len(x), 500)]
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        accuracy = correct(np.concatenate(outputs), y)
        yield Station("SavedModel", accuracy, lambda: answer(serve, given, x[:1]), size)


def answer(serve, given, x):
    (outputs,) = serve(**{given: tf.constant(x)}).values()
    return outputs.numpy()


def on_a_device(model, digits, count):
    """The network behind its rate coding: Keras, and TensorFlow Lite on the same spikes."""
    coding, *layers = model.layers
    x, y = (part[:count] for part in digits.test)
    spikes = np.array(kg.rate_code(x, coding.steps, coding.rate, seed=0))
    samples = np.array(kg.rate_code(digits.train[0][:SAMPLES], coding.steps, coding.rate, seed=1))
    network = keras.Sequential([keras.Input(spikes.shape[1:]), *layers])
    expected = network.predict(spikes, batch_size=500, verbose=0)
    yield Station(
        "Keras, these spikes",
        correct(expected, y),
        lambda: network.predict_on_batch(spikes[:1]),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "device")
        kg.export_saved_model(unrolled(network, spikes.shape[1:]), path)
        for kind in ("as it is", "weights of 8 bits", "8 bits"):
            content = convert(path, kind, samples)
            run = runner(content)
            outputs = np.array([run(sample) for sample in spikes])
            request = functools.partial(run, spikes[0])
            yield Station(f"TF Lite, {kind}", correct(outputs, y), request, len(content))


def unrolled(network, shape):
    """A copy of a network that takes one sample and has no loop."""

    def without_loop(layer):
        config = layer.get_config()
        if isinstance(layer, (kg.SNU, kg.Spiking)):
            config["unroll"] = True
        return type(layer).from_config(config)

    copy = keras.models.clone_model(network, clone_function=without_loop)
    copy.set_weights(network.get_weights())
    return keras.Sequential([keras.Input(batch_shape=(1, *shape), name="spikes"), *copy.layers])


def convert(path, kind, samples):
    converter = tf.lite.TFLiteConverter.from_saved_model(path)
    if kind != "as it is":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "8 bits":
        converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter.convert()


def runner(content):
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    given, wanted = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(sample):
        interpreter.set_tensor(given["index"], sample[None])
        interpreter.invoke()
        return interpreter.get_tensor(wanted["index"])[0]

    return run


def correct(outputs, y):
    """The share of right classes, from spikes over time."""
    return np.mean(np.argmax(outputs.sum(axis=1), axis=1) == y)


if __name__ == "__main__":
    command_line.run(main)
