"""Who follows the pages on spiking networks gets networks in which no layer is silent."""

import json
import pathlib
import re
import warnings

import keras
import pytest

import keras_grapes as kg

pytestmark = pytest.mark.slow
DOCS = pathlib.Path(__file__).parents[1] / "docs"

# Of each page the names of its trained networks, and of what goes into them.
NETWORKS = {
    "guides/spiking_networks.md": {"model": "x_test", "convolutional": "images"},
    "guides/event_data.md": {"model": "x"},
    "guides/neuromorphic_hardware.md": {"model": "x_test"},
    "guides/shipping_spiking_networks.md": {"model": "x_test"},
    "tutorials/spiking_networks.ipynb": {"model": "x_test"},
}


def code(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    if page.endswith(".ipynb"):
        cells = json.loads(text)["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", NETWORKS)
def test_no_layer_is_silent(page, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib").use("agg")
    pytest.importorskip("sklearn")
    if "export_nir" in "".join(code(page)):
        pytest.importorskip("nir")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="(?s).*(is silent|is saturated)")
        for block in code(page):
            exec(compile(block, page, "exec"), names)
    for model, inputs in NETWORKS[page].items():
        assert isinstance(names[model], keras.Model)
        for name, recording in kg.analysis.record(names[model], names[inputs][:64]).items():
            if recording.threshold is not None:
                spikes = recording.spikes[recording.mask]
                assert 0.01 < spikes.mean() < 0.5, (model, name)
                # Of all units some may never spike for so few samples; not many.
                fire = spikes.reshape(-1, spikes.shape[-1]).any(axis=0)
                assert fire.mean() > 0.8, (model, name)
