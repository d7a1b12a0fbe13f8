"""Delta coding, as a function and as a layer."""

import keras
import numpy as np
import pytest

import keras_grapes as kg

SIGNAL = np.array([0.0, 0.25, 0.5, 0.5, 1.0, 0.75, 0.0, 0.125, 0.25, 0.375, 0.5])
# Changes of 0.5 at least from one step to the next.
PREVIOUS = [0, 0, 0, 0, 1, 0, -1, 0, 0, 0, 0]
# From the last spike: 0 -> 0.5 at step 2, -> 1 at step 4, -> 0 at step 6, -> 0.5 at step 10.
LAST_SPIKE = [0, 0, 1, 0, 1, 0, -1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "reference, expected", [("previous", PREVIOUS), ("last_spike", LAST_SPIKE)]
)
def test_by_hand(reference, expected):
    expected = np.array(expected, "float32")
    signal = np.stack([SIGNAL, -SIGNAL], axis=-1)[None]
    signed = kg.delta_code(signal, 0.5, polarity="signed", reference=reference)
    np.testing.assert_array_equal(signed[0], np.stack([expected, -expected], axis=-1))
    rises = kg.delta_code(signal, 0.5, polarity="on", reference=reference)
    np.testing.assert_array_equal(rises[0, :, 0], expected == 1)
    np.testing.assert_array_equal(rises[0, :, 1], expected == -1)
    channels = kg.delta_code(signal, 0.5, reference=reference)
    up, down = expected == 1, expected == -1
    np.testing.assert_array_equal(channels[0], np.stack([up, down, down, up], axis=-1))


def test_shapes_and_dtypes():
    assert kg.delta_code(np.ones((2, 5, 4, 4, 1), "float16")).shape == (2, 5, 4, 4, 2)
    assert kg.delta_code(np.ones((2, 5, 1), "float16")).dtype == "float16"
    assert kg.delta_code(np.ones((2, 5), "int32"), polarity="on").dtype == "float32"
    assert kg.delta_code(np.ones((2, 1, 3))).shape == (2, 1, 6)


@pytest.mark.parametrize("reference", ["previous", "last_spike"])
def test_layer_in_a_model(reference):
    coding = kg.DeltaCoding(0.4, reference=reference)
    model = keras.Sequential([keras.Input((None, 3)), coding, kg.SNU(2)])
    assert coding(keras.Input((None, 3))).shape == (None, None, 6)
    x = np.random.default_rng(0).random((4, 9, 3)).astype("float32")
    encoder = keras.Sequential(model.layers[:1])
    expected = kg.delta_code(x, 0.4, reference=reference)
    np.testing.assert_array_equal(encoder.predict(x, verbose=0), expected)


def test_mask_goes_on():
    model = keras.Sequential(
        [keras.Input((None, 1)), keras.layers.Masking(-1.0), kg.DeltaCoding(), kg.SNU(2)]
    )
    assert model.layers[1].output._keras_mask is not None


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: kg.DeltaCoding(0.0), "`threshold` must be a finite number above 0.*0.0"),
        (lambda: kg.delta_code(np.ones((1, 2, 3)), True), "`threshold`.*True"),
        (lambda: kg.DeltaCoding(polarity="off"), "`polarity` must be one of.*'off'"),
        (lambda: kg.DeltaCoding(reference="first"), "`reference` must be one of.*'first'"),
        (lambda: kg.delta_code(np.ones((2, 3))), r"axes \(batch, time, ..., features\).*\(2, 3\)"),
        (lambda: kg.delta_code(np.ones(2), polarity="on"), r"axes \(batch, time, ...\)"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_no_number():
    with pytest.raises(TypeError, match="`x` must be an array or tensor of numbers"):
        kg.delta_code([["a"]])
