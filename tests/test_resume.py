"""Training that is killed and resumed ends where uninterrupted training ends, bit for bit.

Each part runs in a process of its own: training from beginning to end, training that is killed in
the middle of an epoch, and training that goes on from what was saved. The order of the data is
fixed.
"""

import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.resumed.train import KINDS, WAYS

ROOT = pathlib.Path(__file__).parents[1]


def train(*arguments):
    """Runs `tests/resumed/train.py`; returns its exit code and what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.resumed.train", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def assert_resumes(folder, kinds):
    """Takes a dict of the kinds of models and the ways to resume them."""
    assert train("whole", folder, *kinds)[0] == 0
    # All but the last are interrupted by an error, the last by `kill -9`.
    code, printed = train("interrupted", folder, *kinds)
    assert code == -signal.SIGKILL, printed
    ways = [f"{kind}:{','.join(kinds[kind])}" for kind in kinds]
    code, printed = train("resumed", folder, *ways)
    assert code == 0, printed
    differ = []
    for kind in kinds:
        whole = np.load(folder / kind / "whole.npz")
        for way in kinds[kind]:
            resumed = np.load(folder / kind / f"{way}.npz")
            same = len(whole) == len(resumed) and all(
                np.array_equal(whole[name], resumed[name]) for name in whole
            )
            if not same:
                differ.append((kind, way))
    assert not differ


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills a process")
def test_resumed_training_is_the_uninterrupted_one(tmp_path):
    kinds = {
        "adam": ["weights"],
        "dfa": ["checkpoint", "keras"],
        "spiking": ["backup"],
    }
    assert_resumes(tmp_path, kinds)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_resumes_in_every_way_after_a_kill(kind, tmp_path):
    assert_resumes(tmp_path, {kind: WAYS})
