"""Synaptic operations and energy, counted by hand and by loops over weights."""

import keras
import numpy as np
import pytest

import keras_grapes as kg


def spikes(*shape, rate=0.4):
    return (np.random.default_rng(0).random(shape) < rate).astype("float32")


def count(model, x, **kwargs):
    counted = kg.analysis.synaptic_operations(model, x, **kwargs)
    return {layer.name: layer for layer in counted.layers}, counted


def test_dense_by_hand():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(10, activation="relu", kernel_initializer="ones", name="first"),
            keras.layers.Dense(3, name="second"),
        ]
    )
    # Of two samples one has two inputs and one has none.
    layers, counted = count(model, np.array([[1, 0, 1, 0], [0, 0, 0, 0]], "float32"))
    first, second = layers["first"], layers["second"]
    assert (first.synaptic_operations, first.multiply_accumulates) == (10, 40)
    assert first.input_rate == 0.25 and first.is_spiking
    assert first.energy == pytest.approx(10 * 0.9e-12)
    # The second one takes ten values of 2, or of 0: no spikes, so all its products are done.
    assert (second.synaptic_operations, second.multiply_accumulates) == (15, 30)
    assert second.input_rate == 0.5 and not second.is_spiking
    assert second.energy == pytest.approx(30 * 4.6e-12)
    assert counted.total == 25
    assert counted.energy == pytest.approx(first.energy + second.energy)
    assert counted.dense_energy == pytest.approx(70 * 4.6e-12)
    assert first.updates == second.updates == 0


def test_spiking_units_by_hand():
    layer = kg.SNU(
        2,
        recurrent=True,
        input_activation="linear",
        kernel_initializer="ones",
        recurrent_initializer="zeros",
        name="units",
    )
    model = keras.Sequential([keras.Input((4, 3)), layer])
    # Both units spike where there are two inputs or more, at steps 0, 1, and 3.
    x = np.array([[[1, 1, 0], [1, 1, 1], [0, 0, 0], [0, 1, 1]]], "float32")
    layers, _ = count(model, x, update_energy=1e-12)
    units = layers["units"]
    # 7 inputs meet 2 weights each; of the spikes those of steps 0 and 1 come to a next step, and
    # meet 2 recurrent weights each.
    assert units.synaptic_operations == 7 * 2 + 4 * 2
    assert units.multiply_accumulates == 4 * 3 * 2 + 3 * 2 * 2
    assert units.input_rate == pytest.approx((7 + 4) / (12 + 6))
    assert units.updates == 8
    assert units.energy == pytest.approx(22 * 0.9e-12 + 8e-12)


def test_masked_steps_do_not_count():
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            keras.layers.Masking(-1.0),
            kg.SNU(2, return_sequences=True, recurrent=True, name="units"),
            keras.layers.Dense(5, name="dense"),
        ]
    )
    x = np.concatenate([spikes(2, 6, 3), np.full((2, 4, 3), -1, "float32")], axis=1)
    padded, _ = count(model, x)
    bare, _ = count(model, x[:, :6])
    assert padded == bare


def by_loops(kernel, x, strides, padding, dilation=(1, 1), groups=1):
    """Operations of a convolution: every output, every weight, every input that is not zero."""
    height, width, _, filters = kernel
    out = 0
    sizes = []
    for n, k, s, d in zip(x.shape, (height, width), strides, dilation):
        reach = d * (k - 1) + 1
        if padding == "same":
            size = -(-n // s)
            before = max((size - 1) * s + reach - n, 0) // 2
        else:
            size, before = (n - reach) // s + 1, 0
        sizes.append((size, before))
    (rows, top), (columns, left) = sizes
    for i in range(rows):
        for j in range(columns):
            for a in range(height):
                for b in range(width):
                    row = i * strides[0] - top + a * dilation[0]
                    column = j * strides[1] - left + b * dilation[1]
                    if 0 <= row < x.shape[0] and 0 <= column < x.shape[1]:
                        out += np.count_nonzero(x[row, column]) * (filters // groups)
    return out


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3},
        {"kernel_size": (3, 2), "padding": "same", "strides": 2},
        {"kernel_size": 3, "padding": "same", "dilation_rate": 2},
        {"kernel_size": 2, "groups": 2},
    ],
)
def test_convolutions(arguments):
    convolution = keras.layers.Conv2D(6, name="conv", **arguments)
    model = keras.Sequential([keras.Input((7, 6, 4)), convolution])
    x = spikes(2, 7, 6, 4)
    layers, _ = count(model, x)
    settings = (
        convolution.kernel.shape,
        convolution.strides,
        convolution.padding,
        convolution.dilation_rate,
        convolution.groups,
    )

    def loops(x):
        kernel, strides, padding, dilation, groups = settings
        return by_loops(kernel, x, strides, padding, dilation, groups)

    assert layers["conv"].synaptic_operations == np.mean([loops(sample) for sample in x])
    assert layers["conv"].multiply_accumulates == loops(np.ones_like(x[0]))


def test_convolutions_over_time():
    timed = keras.layers.TimeDistributed
    model = keras.Sequential(
        [
            keras.Input((3, 6, 6, 2)),
            kg.ConvSNU2D(
                4, 3, strides=2, padding="same", return_sequences=True,
                kernel_initializer="ones", name="units",
            ),
            timed(keras.layers.Conv2D(5, 2, name="conv")),
            timed(keras.layers.Flatten()),
            keras.layers.Conv1D(3, 2, padding="causal", dilation_rate=2, name="causal"),
        ]
    )  # fmt: skip
    x = spikes(2, 3, 6, 6, 2, rate=0.05)
    layers, _ = count(kg.propagate(model), x)
    assert list(layers) == ["units", "conv", "causal"]
    operations = [
        sum(by_loops((3, 3, 2, 4), step, (2, 2), "same") for step in sample) for sample in x
    ]
    assert layers["units"].synaptic_operations == np.mean(operations)
    assert layers["units"].updates == 3 * 3 * 3 * 4
    hidden = kg.analysis.record(model, x)["units"].spikes
    operations = [
        sum(by_loops((2, 2, 4, 5), step, (1, 1), "valid") for step in sample) for sample in hidden
    ]
    assert layers["conv"].synaptic_operations == np.mean(operations)
    # 20 values at each of 3 steps meet 3 filters once at their step, and those of the first step
    # once more, two steps later.
    assert layers["causal"].multiply_accumulates == 20 * 3 * (3 + 1)


def test_energies_of_other_hardware_and_the_table():
    model = keras.Sequential([keras.Input((2, 3)), kg.SNU(1000, name="units")])
    counted = kg.analysis.synaptic_operations(
        model, np.ones((1, 2, 3)), accumulate_energy=23.6e-12, update_energy=81e-12
    )
    assert counted.energy == pytest.approx(6000 * 23.6e-12 + 2000 * 81e-12)
    lines = str(counted).splitlines()
    assert lines[0].split() == "layer input rate syn. ops MACs if dense updates energy".split()
    assert lines[1].split() == ["units", "1.000", "6,000", "6,000", "2,000", "304", "nJ", "(AC)"]
    assert lines[2].split() == ["total", "6,000", "6,000", "2,000", "304", "nJ"]


def test_what_cannot_be_counted():
    recurrent = keras.Sequential(
        [keras.Input((4, 3)), kg.SNU(2, return_sequences=True), keras.layers.LSTM(2, name="lstm")]
    )
    with pytest.raises(ValueError, match="'lstm' of type LSTM"):
        kg.analysis.synaptic_operations(recurrent, np.ones((1, 4, 3)))
    without = keras.Sequential([keras.Input((4, 3)), keras.layers.BatchNormalization()])
    with pytest.raises(ValueError, match="no layer whose operations"):
        kg.analysis.synaptic_operations(without, np.ones((1, 4, 3)))
    with pytest.raises(ValueError, match="must be built"):
        kg.analysis.synaptic_operations(keras.Sequential([kg.SNU(2)]), np.ones((1, 4, 3)))
    with pytest.raises(TypeError, match=r"`model` must be .*SNU"):
        kg.analysis.synaptic_operations(kg.SNU(2), np.ones((1, 4, 3)))
    model = keras.Sequential([keras.Input((4, 3)), kg.SNU(2)])
    with pytest.raises(ValueError, match=r"`update_energy` must be .*-1"):
        kg.analysis.synaptic_operations(model, np.ones((1, 4, 3)), update_energy=-1)


def test_layers_without_a_kernel_by_hand():
    """Their weights are those of the layer before; they update, and inhibit each other."""
    inputs = keras.Input((4, 3))
    x = keras.layers.Dense(2, use_bias=False, kernel_initializer="ones", name="weights")(inputs)
    x = kg.Spiking(kg.LIF(0.0, reset="none"), lateral_inhibition=0.1, name="units")(x)
    x = keras.layers.Dense(5, name="last")(x)
    outputs = kg.Spiking(kg.LeakyIntegrator(), name="readout")(x)
    # Both units spike where there are two inputs or more, at steps 0, 1, and 3.
    x = np.array([[[1, 1, 0], [1, 1, 1], [0, 0, 0], [0, 1, 1]]], "float32")
    layers, _ = count(keras.Model(inputs, outputs), x, update_energy=1e-12)
    assert list(layers) == ["weights", "units", "last", "readout"]
    assert [layer.synaptic_operations for layer in layers.values()] == [7 * 2, 4 * 1, 6 * 5, 0]
    assert [layer.multiply_accumulates for layer in layers.values()] == [24, 3 * 2, 40, 0]
    assert [layer.updates for layer in layers.values()] == [0, 8, 0, 20]
    assert layers["last"].is_spiking
    assert layers["readout"].energy == pytest.approx(20e-12)


def test_images_of_units_without_a_kernel():
    convolution = keras.layers.Conv2D(2, 2, use_bias=False, kernel_initializer="ones", name="conv")
    model = keras.Sequential(
        [
            keras.Input((5, 4, 4, 1)),
            keras.layers.TimeDistributed(convolution),
            keras.layers.BatchNormalization(),
            kg.Spiking(kg.LIF(), lateral_inhibition=0.1, name="units"),
        ]
    )
    x = spikes(2, 5, 4, 4, 1)
    layers, _ = count(model, x)
    fired = model.predict(x, verbose=0)
    assert fired[:, :-1].sum() > 0
    # A spike inhibits the other filter at its place, once, at the next step.
    assert layers["units"].synaptic_operations == fired[:, :-1].sum() / 2
    assert layers["units"].updates == 5 * 3 * 3 * 2
