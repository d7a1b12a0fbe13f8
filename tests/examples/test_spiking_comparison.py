import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from examples import command_line, spiking_comparison
from tests.examples.refusal import refusal
from tests.patience import PATIENCE

for module in ("matplotlib", "sklearn", "tensorflow_datasets"):
    pytest.importorskip(module)

SCRIPT = pathlib.Path(spiking_comparison.__file__)
PICTURES = {"firing_rates.png", "learning_curves.png", "raster.png"}


def parse(*arguments):
    return spiking_comparison.parse(
        command_line.Parser(prog="spiking_comparison.py"), list(arguments)
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--steps", "0"], "argument --steps: must be a whole number of at least 1, received '0'"),
        (["--test-steps", "x"], "argument --test-steps: must be a whole number"),
        (["--learning-rate-factor", "-1"], "argument --learning-rate-factor: must be a number"),
        (["--dataset", "cifar"], "argument --dataset: invalid choice: 'cifar'"),
    ],
)
def test_a_wrong_option_gives_one_line(arguments, message, capsys):
    assert message in refusal(capsys, spiking_comparison, *arguments)


def test_plain_and_grapes_start_from_the_same_weights(tmp_path):
    options = parse("--output", str(tmp_path), "--steps", "3")
    for plain, grapes in zip(spiking_comparison.VARIANTS[::2], spiking_comparison.VARIANTS[1::2]):
        assert (plain.grapes, grapes.grapes) == (False, True)
        models = [
            spiking_comparison.build_model(variant, 9, 3, options, test_steps=5)
            for variant in (plain, grapes)
        ]
        for one, other in zip(*(model.get_weights() for model in models), strict=True):
            np.testing.assert_array_equal(one, other)
        x = np.full((2, 9), 0.5, "float32")
        assert models[0].layers[0](x).shape == (2, 5, 9)
        assert models[0].layers[0](x, training=True).shape == (2, 3, 9)


@pytest.mark.slow
def test_digits_train_well_above_chance(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--dataset", "digits", "--output", "out", "--test-steps", "60"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = re.findall(r"^(s?SNU, \w+) +(\d+\.\d\d) % +(\d+\.\d\d) %", done.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == [variant.title for variant in spiking_comparison.VARIANTS]
    assert all(float(row[2]) > 80 for row in rows)
    assert {path.name for path in (tmp_path / "out").iterdir()} == PICTURES
