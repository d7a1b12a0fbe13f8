import gc
import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import hypothesis
import keras
import pytest

# A shell that starts pytest in the background has it ignore Ctrl-C, and its children with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"

if ON_TENSORFLOW:
    import tensorflow as tf

    # Two logical devices, for the tests of distributed training.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )

# Keras traces and compiles on first use, which no deadline should count.
hypothesis.settings.register_profile("keras", deadline=None)
hypothesis.settings.load_profile("keras")


def pytest_ignore_collect(collection_path):
    """On other backends, leaves out the files that have no tests for them."""
    if ON_TENSORFLOW or collection_path.suffix != ".py":
        return None
    return "every_backend" not in collection_path.read_text(encoding="utf-8") or None


@pytest.fixture(autouse=True)
def reproducible():
    """Seeds every test and gives it the default precision back."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    keras.backend.clear_session()
    # It collects garbage among all that TensorFlow has ever made, which takes longer than most
    # tests. What is alive by now is passed over from here on.
    gc.freeze()


@pytest.fixture(scope="session")
def two_devices():
    """A `MirroredStrategy` over both devices.

    One for all tests: the collective operations of two strategies in one process collide.
    """
    return tf.distribute.MirroredStrategy(tf.config.list_logical_devices("CPU"))
