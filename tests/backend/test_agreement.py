"""All backends train alike: from the same weights to the same weights."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
OTHERS = ("jax", "torch")


def start(backend, path):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.backend.trainings", str(path)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="compares the other backends to TensorFlow"
)
def test_other_backends_train_as_tensorflow(tmp_path):
    installed = [name for name in OTHERS if importlib.util.find_spec(name)]
    if not installed:
        pytest.skip("there is no other backend here")
    processes = {name: start(name, tmp_path / name) for name in ("tensorflow", *installed)}
    for name, process in processes.items():
        assert not process.wait() or pytest.fail(f"{name}: {process.stderr.read()}")
    weights = {name: np.load(tmp_path / f"{name}.npz") for name in processes}
    for name in installed:
        for case, expected in weights["tensorflow"].items():
            np.testing.assert_allclose(
                weights[name][case], expected, rtol=0, atol=1e-5, err_msg=f"{name}: {case}"
            )
            # They moved, by far more than that.
            assert np.abs(expected[1] - expected[0]).max() > 1e-2, case
