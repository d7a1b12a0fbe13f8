import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_grapes as kg
from examples import command_line, data, spiking_mnist
from tests.examples.refusal import refusal
from tests.patience import PATIENCE

for module in ("matplotlib", "sklearn", "tensorflow_datasets"):
    pytest.importorskip(module)

SCRIPT = pathlib.Path(spiking_mnist.__file__)
FILES = {"firing_rates.png", "model.keras", "output_potentials.png", "raster.png"}


def parse(*arguments):
    return spiking_mnist.parse(command_line.Parser(prog="spiking_mnist.py"), list(arguments))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--preset", "long"], "argument --preset: invalid choice: 'long'"),
        (["--epochs", "0"], "argument --epochs: must be a whole number of at least 1"),
        (["--hold-out", "-1"], "argument --hold-out: must be a whole number of at least 1"),
        (["--dataset", "cifar"], "argument --dataset: invalid choice: 'cifar'"),
    ],
)
def test_a_wrong_option_gives_one_line(arguments, message, capsys):
    assert message in refusal(capsys, spiking_mnist, *arguments)


def test_every_layer_fires_from_the_start():
    images = data.load("digits").flattened().test[0][:64]
    model = spiking_mnist.build_model(64, 10, seed=0)
    assert [layer.units for layer in model.layers[1:]] == [256, 256, 256, 10]
    rates = {name: r.rates.mean() for name, r in kg.analysis.record(model, images).items()}
    assert len(rates) == 4
    assert all(0.02 < rate < 0.5 for rate in rates.values()), rates


def test_what_is_held_out_is_not_trained_on():
    train = np.arange(10), np.arange(10) + 100
    (x, y), (held_x, held_y) = spiking_mnist.divide(train, 3)
    assert (len(x), len(held_x)) == (7, 3)
    assert sorted([*x, *held_x]) == list(range(10))
    np.testing.assert_array_equal(y, x + 100)
    np.testing.assert_array_equal(held_y, held_x + 100)
    assert spiking_mnist.divide(train, None) == (train, None)


@pytest.mark.slow
def test_digits_with_a_bar_and_a_number(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--dataset", "digits", "--output", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "12/12" in done.stdout and "val_accuracy" in done.stdout
    assert "silent" not in done.stdout
    (reached,) = re.findall(r"Test accuracy after epoch 20: (\d+\.\d\d) %", done.stdout)
    assert float(reached) > 94
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    model = keras.models.load_model(tmp_path / "out" / "model.keras")
    images, labels = data.load("digits").flattened().test
    tested = model.evaluate(images, labels, verbose=0)[1]
    # Other spikes of the same images.
    np.testing.assert_allclose(100 * tested, float(reached), atol=3)
