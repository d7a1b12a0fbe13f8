"""The files in other packages, where these are installed: spikes equal to ours, one by one."""

import keras
import numpy as np
import pytest

import keras_grapes as kg

nir = pytest.importorskip("nir")
pytestmark = pytest.mark.slow

LIF = {"input_activation": "linear", "return_sequences": True}


def normal(stddev, seed):
    return keras.initializers.RandomNormal(stddev=stddev, seed=seed)


def spikes(*shape):
    return (np.random.default_rng(0).random(shape) < 0.5).astype("float32")


def dense(recurrent=False):
    first = kg.SNU(
        16,
        name="first",
        recurrent=recurrent,
        kernel_initializer=normal(0.7, 1),
        recurrent_initializer=normal(0.5, 2),
        trainable_decay=None if recurrent else "unit",
        **LIF,
    )
    second = kg.SNU(12, decay=0.9, name="second", kernel_initializer=normal(0.7, 3), **LIF)
    model = keras.Sequential([keras.Input((None, 8)), first, keras.layers.Dense(10), second])
    if not recurrent:
        first.cell.decay_logit.assign(np.random.default_rng(1).normal(1.0, 1.0, 16))
    return model


def images():
    timed = keras.layers.TimeDistributed
    return keras.Sequential(
        [
            keras.Input((None, 8, 9, 2)),
            kg.ConvSNU2D(4, 3, strides=2, padding="same", kernel_initializer=normal(0.6, 1), **LIF),
            timed(keras.layers.AveragePooling2D(2)),
            timed(keras.layers.Flatten()),
            kg.SNU(7, kernel_initializer=normal(1.0, 2), **LIF),
        ]
    )


def run(network, x):
    """Spikes of a network of PyTorch for one sample, `(time, ...)`, step by step."""
    torch = pytest.importorskip("torch")
    outputs, state = [], None
    for step in x:
        # Without a batch, as NIR's `Flatten` means it.
        result = network(torch.tensor(step), state)
        output, state = result if isinstance(result, tuple) else (result, None)
        outputs.append(output.detach().numpy())
    return np.array(outputs)


@pytest.mark.parametrize("kind", ["dense", "recurrent", "images"])
def test_snntorch(kind, tmp_path):
    importing = pytest.importorskip("snntorch.import_nir")
    nirtorch = pytest.importorskip("nirtorch")
    model = images() if kind == "images" else dense(recurrent=kind == "recurrent")
    x = spikes(3, 40, 8, 9, 2) if kind == "images" else spikes(3, 40, 8)
    expected = model.predict(x, verbose=0)
    assert 0.02 < expected.mean() < 0.9
    kg.export_nir(model, tmp_path / "model.nir", dt=1e-4)

    def module(node):
        return importing._nir_to_snntorch_module(node, init_hidden=True)

    for sample, output in zip(np.moveaxis(x, -1, 2), expected):
        written = nir.read(tmp_path / "model.nir")
        if kind == "recurrent":
            # `import_from_nir` of snnTorch 1.0 leads a recurrent layer's input through its
            # recurrent weights.
            kinds = (nir.Affine, nir.Linear, nir.LIF)
            network = nirtorch.nir_to_torch(written, dict.fromkeys(kinds, module))
        else:
            network = importing.import_from_nir(written)
        np.testing.assert_array_equal(run(network, sample), output)


def test_norse(tmp_path):
    norse = pytest.importorskip("norse.torch")
    model, x = dense(), spikes(3, 40, 8)
    expected = model.predict(x, verbose=0)
    kg.export_nir(model, tmp_path / "model.nir")
    written = nir.read(tmp_path / "model.nir")
    # Norse leaves `r` out, and says so: the weights take it.
    for name in ("first", "second"):
        neuron, kernel = written.nodes[name], written.nodes[f"{name}_kernel"]
        kernel.weight = kernel.weight * neuron.r[:, None]
        neuron.r = np.ones_like(neuron.r)
    for sample, output in zip(x, expected):
        network = norse.from_nir(written, dt=1e-3)
        np.testing.assert_array_equal(run(network, sample[:, None])[:, 0], output)
