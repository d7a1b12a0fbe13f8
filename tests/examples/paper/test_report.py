"""Tables and figures of every study, from records that are made up."""

import random

import pytest

pytest.importorskip("matplotlib")

from examples.paper.report import Report, unique_runs
from examples.paper.studies import STUDIES


def made_up(settings):
    """A record as the engine writes it, with accuracies that rise."""
    draw = random.Random(repr(settings))
    curve = [0.9 * epoch / (2 + epoch) for epoch in range(1, settings.all_epochs + 1)]
    curve = [value + draw.uniform(0, 0.05) for value in curve]
    record = {
        "epochs": {"test_accuracy": curve, "validation_accuracy": curve},
        "diverged": False,
        "versions": {"keras": "3", "tensorflow": "2"},
    }
    if settings.tasks:
        record["tasks"] = [[draw.random() for _ in range(settings.tasks)] for _ in curve]
    layers = len(settings.hidden)
    factors = {"mean": 1.5, "deviation": 0.1, "at_floor": 0.0, "histogram": [1] * 20}
    weights = {"variance": 0.1, "kurtosis": 0.0, "tail": 0.1}
    record["modulation"] = [[{**factors, "edges": [1.0, 2.0]}] * layers] * 2
    record["weights"] = [[weights] * layers] * 2
    return record


def report(name, preset, keep=lambda settings: True):
    study = STUDIES[name]
    scale = study.scale(preset)
    records = {s: made_up(s) for s in unique_runs(study, scale) if keep(s)}
    return Report(study, preset, scale, records)


@pytest.mark.parametrize("name", STUDIES)
def test_whole(name, tmp_path):
    found = report(name, "reduced")
    assert "Incomplete" not in found.caption
    assert "none (" not in found.tables and "|  |" not in found.tables
    for claim in found.study.claims:
        differences = claim.differences(found.outcomes)
        assert differences and all(d.n == 5 for d in differences)
        if claim.pairs is None:
            assert len(claim.against_mean_only(found.outcomes)) == len(differences)
    found.save_figure(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", STUDIES)
def test_of_one_arm_as_yet(name, tmp_path):
    found = report(name, "reduced", lambda s: s.arm == "plain" and s.seed == 0)
    assert "Incomplete: " in found.caption
    assert all(claim.differences(found.outcomes) == [] for claim in found.study.claims)
    found.save_figure(tmp_path / "figure.png")


def test_another_data_set_is_in_the_title():
    study = STUDIES["fig4b"]
    scale = study.scale("quick", dataset="digits")
    assert Report(study, "quick", scale, {}).title.endswith("(here: digits)")
    assert Report(study, "quick", study.scale("quick"), {}).title == study.title


def test_a_claim_needs_the_runs_of_its_arms_alone():
    found = report("fig4b", "long", lambda s: s.arm != "pattern only" or s.seed == 0)
    assert "Incomplete: " in found.caption
    assert found.has_all_of("plain", "GRAPES") and found.has_all_of("mean only")
    assert not found.has_all_of("plain", "pattern only")
