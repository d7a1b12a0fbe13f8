import collections

import keras
import pytest

from examples.paper import networks, sizes
from examples.paper.settings import ARMS, Settings
from examples.paper.studies import STUDIES
from examples.paper.study import PRESETS

SHAPES = {
    "digits": (8, 8, 1),
    "mnist": (28, 28, 1),
    "fashion_mnist": (28, 28, 1),
    "emnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", STUDIES)
def test_runs_of_every_preset(name, preset):
    study = STUDIES[name]
    if preset == "long" and study.long is None:
        with pytest.raises(ValueError, match=f"--preset long: {name} has none"):
            study.scale(preset)
        return
    scale = study.scale(preset)
    runs = list(dict.fromkeys(study.runs(scale)))
    per_configuration = collections.Counter(settings.configuration for settings in runs)
    assert set(per_configuration.values()) == {scale.seeds}
    assert all(sizes.multiplications(settings) > 0 for settings in runs)
    assert all(Settings.from_dict(settings.to_dict()) == settings for settings in runs)
    for settings in runs:
        assert settings.dataset in SHAPES
    if preset == "paper":
        assert "Nothing cut" in study.caption(preset, scale)
    elif preset == "quick":
        assert "Cut:" in study.caption(preset, scale)


@pytest.mark.parametrize("name", STUDIES)
def test_configurations_build(name):
    study = STUDIES[name]
    runs = study.runs(study.scale("quick"))
    # Of each kind one, as building takes time.
    kinds = {(s.network, s.rule, s.arm == "plain", s.deformation): s for s in runs}
    for settings in kinds.values():
        if "elastic" in settings.deformation and not hasattr(
            keras.layers, "RandomElasticTransform"
        ):
            with pytest.raises(ValueError, match="needs a newer Keras"):
                networks.build(settings, SHAPES[settings.dataset], 10)
            continue
        shape = SHAPES[settings.dataset]
        model = networks.build(settings, shape, 10)
        networks.compile_model(model, settings)
        assert model.compute_output_shape((None, *shape)) == (None, 10)


def test_arms_keep_what_their_names_say():
    assert ARMS["plain"] is None and ARMS["GRAPES"] == {}
    modulations = {
        arm: networks.modulation_of(Settings(arm=arm, bounds=(1.0, 3.0))) for arm in ARMS
    }
    assert modulations["plain"] is None
    assert modulations["mean only"].granularity == "layer"
    assert modulations["pattern only"].unit_mean
    assert {m.bounds for m in modulations.values() if m} == {(1.0, 3.0)}


def test_plain_training_is_run_once_for_both_versions():
    study = STUDIES["controls"]
    scale = study.scale("quick")
    runs = study.runs(scale)
    per_arm = collections.Counter(settings.arm for settings in runs)
    assert per_arm["GRAPES"] == 2 * per_arm["plain"]
    assert len(set(runs)) == len(runs)


def test_what_a_study_does_not_choose_is_refused():
    with pytest.raises(ValueError, match="--arms: interval has no choice of arms"):
        STUDIES["interval"].scale("quick", arms=("plain",))
