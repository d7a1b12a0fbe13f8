"""What holds for every public layer."""

import keras
import numpy as np
import pytest

import keras_grapes as kg
from tests.layer_checks import CHECKS, Case

SEQUENCE = (6, 4)


def wrapped(**options):
    shared = {name: options.pop(name) for name in ("dtype",) if name in options}
    inner = keras.layers.Dense(3, "tanh", name=options.pop("name", None), **shared)
    return kg.ErrorModulation(inner)


def of_cell(cell_class):
    def make(dtype=None, **options):
        return keras.layers.RNN(cell_class(3, dtype=dtype), dtype=dtype, **options)

    return make


def layer(layer_class, *args, **fixed):
    return lambda **options: layer_class(*args, **fixed, **options)


RETURNING = {"return_sequences": True, "input_activation": "leaky_relu"}
CASES = {
    "ErrorModulation": Case(wrapped, SEQUENCE, weights=2),
    "SNU": Case(layer(kg.SNU, 3, **RETURNING), SEQUENCE, weights=2),
    "SNU, recurrent": Case(layer(kg.SNU, 3, recurrent=True, **RETURNING), SEQUENCE, weights=3),
    "SSNU": Case(layer(kg.SSNU, 3), SEQUENCE, weights=2),
    "ConvSNU2D": Case(layer(kg.ConvSNU2D, 2, 3, return_sequences=True), (4, 6, 6, 2), weights=2),
    "Spiking": Case(layer(kg.Spiking, kg.LIF(0.8)), SEQUENCE),
    "Spiking, learned": Case(
        layer(kg.Spiking, kg.ALIF(0.8), 0.1, {"decay": "unit", "threshold": "scalar"}),
        SEQUENCE,
        weights=2,
    ),
    "RateCoding": Case(layer(kg.RateCoding, 5, 0.5, seed=1), (4,), masks=False, draws=True),
    "LatencyCoding": Case(layer(kg.LatencyCoding, 5, 0.1, tau=2.0), (4,), masks=False),
    "DeltaCoding": Case(layer(kg.DeltaCoding, 0.1), SEQUENCE),
    "PopulationCoding": Case(layer(kg.PopulationCoding, 5, -1.0, width=0.7), SEQUENCE),
}
CELLS = {"SNUCell", "SSNUCell", "SpikingCell"}


def test_no_public_layer_is_missing():
    public = {
        name
        for name in kg.layers.__all__
        if isinstance(getattr(kg.layers, name), type)
        and issubclass(getattr(kg.layers, name), keras.layers.Layer)
    }
    assert {name.split(",")[0] for name in CASES} | CELLS == public


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_layer(case, check, tmp_path):
    check(case, tmp_path)


@pytest.mark.parametrize("cell_class", [kg.SNUCell, kg.SSNUCell])
def test_cells_in_a_recurrent_layer_of_keras_are_saved(cell_class, tmp_path):
    cell = cell_class(3, name="own")
    again = cell_class.from_config(cell.get_config())
    assert again.get_config() == cell.get_config()
    model = keras.Sequential([keras.Input(SEQUENCE), of_cell(cell_class)()])
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).uniform(size=(2, *SEQUENCE)).astype("float32")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
