"""Every architecture of `keras.applications` that fits into memory, with fresh weights."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_grapes as kg
from tests.zoo import checks

# The smallest images that they take.
SIZES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
TOO_LARGE = {"ConvNeXtLarge", "ConvNeXtXLarge", "EfficientNetV2L", "NASNetLarge"}
NAMES = sorted(
    name
    for name, make in vars(keras.applications).items()
    if callable(make) and name[0].isupper() and name not in TOO_LARGE
)


def model_of(name):
    size = SIZES.get(name, 32)
    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(size, size, 3), classes=5, classifier_activation=None)
    x = np.random.default_rng(0).uniform(0, 1, (2, size, size, 3)).astype("float32")
    return model, x


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_architecture(name):
    checks.check_image_classifier(*model_of(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV3Small", "EfficientNetB0", "ResNet50V2"])
@pytest.mark.filterwarnings("ignore:The error gain")
def test_export(name, tmp_path):
    model, x = model_of(name)
    path = kg.export_saved_model(kg.propagate(model), tmp_path / "1")
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    (argument,) = served.structured_input_signature[1]
    (output,) = served(**{argument: tf.constant(x)}).values()
    np.testing.assert_allclose(output, model.predict(x, verbose=0), rtol=1e-4, atol=1e-6)
    size = sum(file.stat().st_size for file in pathlib.Path(path, "variables").iterdir())
    weights = sum(w.numpy().nbytes for w in model.weights)
    assert size < 1.05 * weights + 100_000
