"""Serves the exported models of a folder, where this package cannot be imported."""

import os
import pathlib
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf


class Refuse:
    """A finder of modules that has none of this package, wherever it is installed."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "keras_grapes":
            raise ImportError(f"{name} is not installed here")


sys.meta_path.insert(0, Refuse())
try:
    import keras_grapes  # noqa: F401
except ImportError:
    pass
else:
    sys.exit("keras_grapes can be imported, so that this shows nothing")

for data in sorted(pathlib.Path(sys.argv[1]).glob("*.npz")):
    served = tf.saved_model.load(str(data.with_suffix("") / "1")).signatures["serving_default"]
    arrays = np.load(data)
    inputs = {n[3:]: tf.constant(arrays[n]) for n in arrays if n.startswith("in:")}
    outputs = served(**inputs)
    expected = {n[4:]: arrays[n] for n in arrays if n.startswith("out:")}
    assert sorted(outputs) == sorted(expected), (data.stem, sorted(outputs))
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, atol=2e-6, err_msg=data.stem)
    print("served", data.stem)
