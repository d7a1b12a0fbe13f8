import dataclasses

import pytest

from examples.paper.settings import ARMS, CHOICES, Settings, held_out, of_scale
from examples.paper.studies import STUDIES


@pytest.mark.parametrize("name", CHOICES)
def test_a_value_that_is_no_choice_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name} must be one of .* Received: {name}='locl'"):
        Settings(**{name: "locl"})


def test_an_unknown_probe_is_refused():
    with pytest.raises(ValueError, match="record must be one of"):
        Settings(record=("modulations",))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"network": "SNU", "dropout": 0.5}, "network='SNU' does not read dropout"),
        ({"network": "SNU", "bias": True}, "does not read bias"),
        ({"network": "SSNU", "activation": "tanh"}, "does not read activation"),
        ({"network": "residual", "hidden": (64,)}, "does not read hidden"),
        ({"network": "residual", "deformation": "affine"}, "does not read deformation"),
        ({"network": "dense", "reset": "soft"}, "does not read reset"),
        ({"network": "dense", "steps": 10}, "does not read steps"),
        ({"network": "recurrent", "dropout": 0.1}, "does not read dropout"),
        ({"rule": "FA", "version": "local"}, "rule='FA' has no local version"),
        ({"tasks": 2, "validation_examples": 10}, "a sequence of tasks holds out none"),
        ({"arm": "GRAPES", "raised_rate": True}, "raised_rate is of plain training"),
    ],
)
def test_what_nothing_of_a_run_reads_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings(**changes)


def test_few_images_hold_a_sixth_out():
    scale = STUDIES["fig4b"].scale("paper")
    assert of_scale(scale).validation_examples == 10_000
    assert held_out(Settings(), scale, dataset="digits").validation_examples == 1437 // 6


def only(name, **wanted):
    """Values that the runs of a study at the paper's scale have, by their names."""
    study = STUDIES[name]
    runs = study.runs(study.scale("paper"))
    chosen = [s for s in runs if all(getattr(s, k) == v for k, v in wanted.items())]
    assert chosen
    return {
        field.name: {getattr(s, field.name) for s in chosen}
        for field in dataclasses.fields(Settings)
    }


# What the two papers' texts and captions give.
@pytest.mark.parametrize(
    "found, expected",
    [
        (
            only("fig3"),
            {"hidden": {(256,) * 10}, "activation": {"tanh"}, "dropout": {0.1}, "epochs": {200}},
        ),
        (
            only("fig4a"),
            {"hidden": {(256,) * 10}, "dropout": {0.0}, "learning_rate": {0.001}, "epochs": {100}},
        ),
        (only("fig4b"), {"dropout": {0.1}, "activation": {"relu"}, "epochs": {200}}),
        (
            only("fig5"),
            {"dropout": {0.1}, "activation": {"relu"}, "dataset": {"emnist", "fashion_mnist"}},
        ),
        (only("fig5", dataset="emnist"), {"rule": {"FA"}}),
        (only("fig5", dataset="fashion_mnist"), {"rule": {"DFA"}}),
        (
            only("fig6", hidden=(256, 256)),
            {"dropout": {0.1}, "optimizer": {"momentum"}, "epochs": {1}, "permuted_pixels": {None}},
        ),
        (
            only("fig6", hidden=(256,) * 3),
            {"dropout": {0.1}, "optimizer": {"SGD"}, "epochs": {10}, "permuted_pixels": {600, 300}},
        ),
        (
            only("fig7", network="SNU"),
            {"reset": {"soft", "subtract"}, "steps": {20}, "test_steps": {300}},
        ),
        (only("fig7", network="SSNU"), {"learning_rate": {0.2}, "reset": {"gate"}}),
        (only("table1"), {"optimizer": {"Adam"}, "decay_every": {50}, "epochs": {250}}),
        (only("configurations"), {"deformation": {"", "affine and elastic"}}),
        (only("scalability"), {"dropout": {0.1}, "learning_rate": {0.001}, "epochs": {200}}),
        (only("preprint_fig4", hidden=(256,) * 10), {"raised_rate": {False, True}}),
        (
            only("preprint_fig5"),
            {
                "hidden": {(256,) * 3},
                "dropout": {0.1},
                "rule": {"BP", "FA", "DFA"},
                "dataset": {"mnist", "fashion_mnist", "emnist", "cifar10"},
            },
        ),
    ],
)
def test_studies_have_the_settings_of_the_papers(found, expected):
    assert {name: found[name] for name in expected} == expected
    assert found["batch_size"] == {64} or found["network"] != {"dense"}


@pytest.mark.parametrize("name", sorted(set(STUDIES) - {"fig3", "interval"}))
def test_every_verdict_has_both_controls_and_five_seeds(name):
    study = STUDIES[name]
    for preset in ("reduced", "long"):
        if preset == "long" and study.long is None:
            continue
        scale = study.scale(preset)
        assert scale.seeds >= 5 and tuple(scale.arms) == tuple(ARMS)
