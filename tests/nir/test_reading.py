"""Graphs of NIR, made by hand, as models, against the definitions of the nodes in NumPy."""

import numpy as np
import pytest

import keras_grapes as kg
from tests.nir import simulator

nir = pytest.importorskip("nir")

DT = 0.001


def lif(shape, tau=0.004, r=None, threshold=1.0, leak=0.0, reset=0.0):
    def array(value):
        return np.broadcast_to(value, shape).astype("float32")

    r = np.asarray(tau) / DT if r is None else r
    return nir.LIF(
        tau=array(tau),
        r=array(r),
        v_leak=array(leak),
        v_threshold=array(threshold),
        v_reset=array(reset),
    )


def normal(*shape, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype("float32")


def spikes(*shape, rate=0.5):
    return (np.random.default_rng(7).random(shape) < rate).astype("float32")


def graph(edges, **nodes):
    """A graph from text such as `"input a, a b, b output"`."""
    return nir.NIRGraph(nodes, [tuple(edge.split()) for edge in edges.split(", ")])


def check(written, x, **kwargs):
    """Compares a graph's model with the graph run in NumPy. Returns the model."""
    model = kg.import_nir(written, **kwargs)
    expected = np.array([simulator.run(written, sample, kwargs.get("dt", DT)) for sample in x])
    assert expected.std() > 0
    channels_last = np.moveaxis(x, 2, -1)
    result = model.predict(channels_last, verbose=0)
    if expected.ndim == 5:
        expected = np.moveaxis(expected, 2, -1)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    return model


def test_a_decay_of_few_digits_comes_back_exactly():
    for decay in (0.0, 0.1, 0.5, 0.8, 0.9, 0.95, 0.999):
        written = nir.NIRGraph.from_list(
            nir.Linear(normal(2, 3)), lif(2, tau=np.float32(DT / (1 - decay)))
        )
        assert kg.import_nir(written).get_layer("lif").decay == decay


def test_scale_of_the_input_goes_into_the_kernels():
    # tau = 4 dt and r = 2 make half the input: s = 0.75 s + 0.5 I.
    written = graph(
        "input a, a b, b c, c b, b output",
        input=nir.Input(np.array([3])),
        a=nir.Linear(normal(5, 3, scale=4.0)),
        b=lif(5, r=2.0),
        c=nir.Linear(normal(5, 5, seed=1)),
        output=nir.Output(np.array([5])),
    )
    model = check(written, spikes(2, 20, 3))
    cell = model.get_layer("b").cell
    np.testing.assert_allclose(cell.kernel, 0.5 * written.nodes["a"].weight.T)
    np.testing.assert_allclose(cell.recurrent_kernel, 0.5 * written.nodes["c"].weight.T)
    assert model.get_layer("b").decay == 0.75


def test_bias_leak_and_sums_of_edges():
    written = graph(
        "input a, input b, a c, b c, c d, d e, c f, e f, f output",
        input=nir.Input(np.array([3])),
        a=nir.Affine(normal(4, 3), normal(4, seed=1)),
        b=nir.Linear(normal(4, 3, seed=2)),
        # A leak to 0.5 drives the units, and their thresholds and decays differ.
        c=lif(4, tau=[0.002, 0.003, 0.004, 0.005], leak=0.5, threshold=[0.5, 0.8, 1.0, 0.1]),
        d=nir.Affine(normal(4, 4, seed=3), normal(4, seed=4)),
        e=lif(4),
        f=nir.IF(
            r=np.full(4, 500, "float32"),
            v_threshold=np.ones(4, "float32"),
            v_reset=np.zeros(4, "float32"),
        ),
        output=nir.Output(np.array([4])),
    )
    model = check(written, spikes(2, 30, 3))
    assert model.get_layer("c").trainable_parameters == {"decay": "unit", "threshold": "unit"}
    assert not model.get_layer("e").trainable_parameters
    assert [type(model.get_layer(name)).__name__ for name in "cdef"] == ["Spiking", "Dense"] + [
        "Spiking"
    ] * 2


def cuba(shape, **changes):
    values = {
        "tau_syn": 0.004, "tau_mem": 0.005, "r": 5.0, "v_leak": 0.0, "v_threshold": 1.0,
        "v_reset": 0.0, "w_in": 2.0, **changes,
    }  # fmt: skip
    return nir.CubaLIF(
        **{name: np.broadcast_to(v, shape).astype("float32") for name, v in values.items()}
    )


def test_units_of_second_order():
    differing = np.array([0.002, 0.003, 0.004, 0.008])
    written = nir.NIRGraph.from_list(
        nir.Linear(normal(4, 3)),
        cuba(4, tau_syn=differing, tau_mem=differing[::-1], v_threshold=[0.5, 1.0, 0.3, 0.2]),
        nir.Affine(normal(5, 4, seed=1), normal(5, seed=2)),
        cuba(5, r=3.0),
        nir.Linear(normal(2, 5, seed=3)),
        nir.LI(
            tau=np.full(2, 0.01, "float32"),
            r=np.full(2, 10.0, "float32"),
            v_leak=np.zeros(2, "float32"),
        ),
    )
    model = check(written, spikes(2, 30, 3))
    assert model.get_layer("cubalif").trainable_parameters == {
        "decay": "unit", "threshold": "unit", "synaptic_decay": "unit"
    }  # fmt: skip
    neuron = model.get_layer("cubalif_1").neuron
    assert neuron == kg.Synaptic(0.8, 0.75, 1.0, reset="zero")
    images = nir.NIRGraph.from_list(
        nir.Conv2d((4, 4), normal(2, 1, 2, 2), 1, 0, 1, 1, normal(2, seed=1)),
        cuba((2, 3, 3), tau_mem=np.reshape([0.002, 0.004], (2, 1, 1))),
    )
    check(images, spikes(2, 12, 1, 4, 4))


def integrator(shape, **changes):
    values = {"tau_syn": 0.004, "tau_mem": 0.005, "r": 5.0, "v_leak": 0.0, "w_in": 2.0, **changes}
    return nir.CubaLI(
        **{name: np.broadcast_to(v, shape).astype("float32") for name, v in values.items()}
    )


def test_integrators_of_second_order():
    written = nir.NIRGraph.from_list(
        nir.Linear(normal(4, 3)),
        integrator(4, tau_syn=[0.002, 0.003, 0.004, 0.008], v_leak=0.3),
        nir.Affine(normal(2, 4, seed=1), normal(2, seed=2)),
        integrator(2, tau_mem=[0.002, 0.01], r=[-3.0, 2.0], w_in=[0.5, -2.0]),
    )
    model = check(written, spikes(2, 30, 3))
    assert model.get_layer("cubali_synapse").units == 4
    images = nir.NIRGraph.from_list(
        nir.Conv2d((4, 4), normal(2, 1, 2, 2), 1, 0, 1, 1, normal(2, seed=1)),
        integrator((2, 3, 3), v_leak=0.1, w_in=4.0),
    )
    check(images, spikes(2, 12, 1, 4, 4))


def test_an_integrator_of_second_order_beside_a_node_of_the_name_of_its_synapse():
    written = graph(
        "input a_synapse, a_synapse a, a output",
        input=nir.Input(np.array([3])),
        a_synapse=nir.Linear(normal(2, 3)),
        a=integrator(2),
        output=nir.Output(np.array([2])),
    )
    check(written, spikes(2, 9, 3))


@pytest.mark.parametrize("recurrence", ["none", "scale", "subgraph"])
def test_recurrences(recurrence):
    nodes = {
        "input": nir.Input(np.array([3])),
        "a": nir.Linear(normal(4, 3, scale=2.0)),
        "output": nir.Output(np.array([4])),
    }
    if recurrence == "none":
        written = graph("input a, a b, b b, b output", b=lif(4), **nodes)
    elif recurrence == "scale":
        scale = nir.Scale(normal(4, seed=1))
        written = graph("input a, a b, b c, c b, b output", b=lif(4), c=scale, **nodes)
    else:
        inner = graph(
            "in lif, lif w, w lif, lif out",
            **{
                "in": nir.Input(np.array([4])),
                "lif": lif(4),
                "w": nir.Affine(normal(4, 4, seed=1), np.zeros(4, "float32")),
                "out": nir.Output(np.array([4])),
            },
        )
        outer = graph("input a, a b, b output", b=inner, **nodes)
        model = kg.import_nir(outer)
        assert model.get_layer("b_lif").recurrent
        flat = graph("input a, a b, b c, c b, b output", b=lif(4), c=inner.nodes["w"], **nodes)
        x = spikes(2, 20, 3)
        expected = check(flat, x).predict(x, verbose=0)
        np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
        return
    assert check(written, spikes(2, 20, 3)).get_layer("b").recurrent


def test_images():
    written = nir.NIRGraph.from_list(
        nir.Input(np.array([2, 6, 6])),
        nir.Conv2d((6, 6), normal(3, 2, 3, 3), 2, 1, 1, 1, np.zeros(3, "float32")),
        lif((3, 3, 3), tau=np.reshape([0.002, 0.003, 0.004], (3, 1, 1))),
        nir.Conv2d((3, 3), normal(4, 3, 2, 2, seed=1), 1, "same", 1, 1, normal(4, seed=2)),
        lif((4, 3, 3)),
        nir.SumPool2d(np.array([2, 2]), np.array([1, 1]), np.array([0, 0])),
        lif((4, 2, 2), leak=0.1),
        nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([1, 1])),
        nir.Scale(normal(4, 2, 2, seed=3)),
        nir.Flatten(np.array([4, 2, 2]), 0),
        nir.Linear(normal(5, 16, seed=5, scale=2.0)),
        lif(5),
    )
    check(written, spikes(2, 12, 2, 6, 6))


def test_integrators_and_images_as_outputs():
    ones = np.ones((2, 4, 4), "float32")
    written = nir.NIRGraph.from_list(
        nir.Conv2d((4, 4), normal(2, 3, 1, 1), 1, 0, 1, 1, np.zeros(2, "float32")),
        nir.LI(tau=0.01 * ones, r=3 * ones, v_leak=0.2 * ones),
        nir.I(r=200 * ones),
    )
    check(written, spikes(2, 8, 3, 4, 4))


def test_dt_of_the_file_and_of_the_caller(tmp_path):
    written = nir.NIRGraph.from_list(nir.Linear(normal(2, 3)), lif(2, tau=0.008))
    nir.write(tmp_path / "a.nir", written)
    assert kg.import_nir(str(tmp_path / "a.nir")).get_layer("lif").decay == 0.875
    assert kg.import_nir(tmp_path / "a.nir", dt=0.004).get_layer("lif").decay == 0.5
    written.metadata = {"dt": 0.002}
    nir.write(tmp_path / "b.nir", written)
    assert kg.import_nir(tmp_path / "b.nir").get_layer("lif").decay == 0.75


def test_the_model_saves_and_trains(tmp_path):
    import keras

    written = nir.NIRGraph.from_list(
        nir.Linear(normal(4, 3, scale=2.0)), lif(4, tau=[0.002, 0.003, 0.004, 0.005])
    )
    model, x = kg.import_nir(written), spikes(4, 10, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    before = np.array(model.get_layer("lif").cell.kernel)
    model.compile("sgd", "mse")
    model.fit(x, 1 - model.predict(x, verbose=0), verbose=0)
    assert np.abs(before - model.get_layer("lif").cell.kernel).max() > 0


def flat(*nodes):
    return nir.NIRGraph.from_list(nir.Linear(normal(4, 3)), *nodes)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: flat(lif(4, reset=0.5)), r"'lif' of type LIF.*v_reset=\[0.5"),
        (lambda: flat(lif(4, tau=0.0005)), "'lif'.*tau=0.0005.*Give the `dt`"),
        (
            lambda: graph(
                "input a, a a, a output",
                input=nir.Input(np.array([4])),
                a=integrator(4),
                output=nir.Output(np.array([4])),
            ),
            r"cycle through more than one neuron.*\['a', 'a_synapse'",
        ),
        (lambda: flat(cuba(4, v_leak=0.1)), r"'cubalif'.*leaks to a potential.*v_leak=\[0.1"),
        (lambda: flat(cuba(4, v_reset=0.1)), r"'cubalif'.*v_reset=\[0.1"),
        (lambda: flat(cuba(4, tau_syn=0.0001)), "'cubalif'.*tau=9.99.*Give the `dt`"),
        (lambda: flat(cuba(4, v_threshold=0.0)), "'cubalif'.*a threshold above 0"),
        (
            lambda: flat(nir.Affine(normal(4, 4), normal(4)), lif(4, tau=[0.001, 0.002] * 2)),
            "'lif'.*all or nothing",
        ),
        (lambda: flat(nir.Threshold(np.ones(4))), "'threshold' of type Threshold"),
        (lambda: flat(nir.Delay(np.ones(4))), "'delay' of type Delay"),
        (lambda: flat(lif(4, tau=[0.001, 0.002, 0.002, 0.002])), "'lif'.*all or nothing"),
        (
            lambda: nir.NIRGraph.from_list(
                nir.Conv2d((2, 2), normal(1, 1, 1, 1), 1, 0, 1, 1, np.zeros(1)),
                lif((1, 2, 2), threshold=np.array([[[1, 2], [3, 4]]])),
            ),
            "'lif'.*differ between the positions",
        ),
        (
            lambda: graph(
                "input a, a b, b c, c d, d a, c output",
                input=nir.Input(np.array([3])),
                a=lif(3),
                b=nir.Linear(normal(3, 3)),
                c=lif(3),
                d=nir.Linear(normal(3, 3)),
                output=nir.Output(np.array([3])),
            ),
            r"cycle.*\['a', 'b', 'c', 'd', 'output'\]",
        ),
        (
            lambda: graph(
                "input a, a b, b a, a output",
                input=nir.Input(np.array([3])),
                a=lif(3),
                b=nir.Affine(normal(3, 3), np.ones(3)),
                output=nir.Output(np.array([3])),
            ),
            "'b' of type Affine.*without a bias",
        ),
        (
            lambda: graph(
                "input output, input second",
                input=nir.Input(np.array([3])),
                output=nir.Output(np.array([3])),
                second=nir.Output(np.array([3])),
            ),
            "one node of type Output. Received: 2",
        ),
        (
            lambda: nir.NIRGraph.from_list(
                nir.Input(np.array([2, 3, 3])), nir.Flatten(np.array([2, 3, 3]), 1)
            ),
            "'flatten'.*all axes.*start_dim=1",
        ),
    ],
)
def test_what_has_no_equivalent(make, message):
    with pytest.raises(ValueError, match=message):
        kg.import_nir(make(), dt=DT)


def test_bad_arguments(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.nir"):
        kg.import_nir(tmp_path / "nothing.nir")
    with pytest.raises(ValueError, match=r"`path` must be the path of a file.*3"):
        kg.import_nir(3)
    with pytest.raises(ValueError, match=r"`dt` must be .*dt=-1"):
        kg.import_nir(flat(), dt=-1)
