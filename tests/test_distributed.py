"""TensorFlow's own engine for several devices and machines: the weights are those of one device."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests import distributed_training
from tests.distributed_training import KINDS, train
from tests.patience import PATIENCE

ROOT = pathlib.Path(__file__).parents[1]


def assert_same(trained, expected):
    for weight, other in zip(trained, expected, strict=True):
        np.testing.assert_allclose(weight, other, atol=1e-6)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def two_workers(tmp_path):
    """The weights that two processes have trained together, a dict for each process."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    workers = []
    try:
        for index in range(2):
            config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
            workers.append(
                subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        distributed_training.__name__,
                        tmp_path / f"{index}.npz",
                    ],
                    cwd=ROOT,
                    env={**os.environ, "TF_CONFIG": json.dumps(config)},
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        for worker in workers:
            _, errors = worker.communicate(timeout=PATIENCE)
            assert worker.returncode == 0, errors
    finally:
        for worker in workers:
            worker.kill()
    return [np.load(tmp_path / f"{index}.npz") for index in range(2)]


# One test, as all kinds are trained by the same two processes.
def test_two_workers_train_as_one_device_does(two_workers):
    for kind in KINDS:
        expected = train(kind, tf.distribute.get_strategy())
        for weights in two_workers:
            trained = [weights[name] for name in weights.files if name.startswith(f"{kind}/")]
            assert_same(trained, expected)


def test_mirrored_propagated_model_trains_as_on_one_device(two_devices):
    expected = train("propagate", tf.distribute.get_strategy())
    assert_same(train("propagate", two_devices), expected)
