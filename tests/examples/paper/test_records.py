import pytest

from examples.paper.records import Records
from examples.paper.settings import Settings


def record(seed):
    return {"settings": Settings(hidden=(8, 7), seed=seed).to_dict(), "number": seed}


def write(path, seeds):
    with Records(path).writing() as records:
        for seed in seeds:
            records.append(record(seed))


def test_records_come_back_by_their_settings(tmp_path):
    path = tmp_path / "runs.jsonl"
    assert Records(path).load() == {}
    write(path, [0, 1])
    write(path, [2])
    found = Records(path).load()
    assert {settings.seed: entry["number"] for settings, entry in found.items()} == {
        0: 0,
        1: 1,
        2: 2,
    }
    assert Settings(hidden=(8, 7), seed=1) in found


@pytest.mark.parametrize("cut", [1, 40])
def test_a_torn_last_line_is_no_record_and_is_repaired(tmp_path, cut):
    path = tmp_path / "runs.jsonl"
    write(path, [0, 1])
    path.write_bytes(path.read_bytes()[:-cut])
    assert [settings.seed for settings in Records(path).load()] == [0]
    write(path, [1, 2])
    assert [settings.seed for settings in Records(path).load()] == [0, 1, 2]
    assert path.read_bytes().count(b"\n") == 3


def test_what_is_no_record_is_named(tmp_path):
    path = tmp_path / "runs.jsonl"
    write(path, [0])
    path.write_bytes(b"nonsense\n" + path.read_bytes())
    with pytest.raises(ValueError, match=r"line 1 of .*runs\.jsonl is not a record"):
        Records(path).load()


def test_a_record_of_what_no_setting_may_be_is_named(tmp_path):
    path = tmp_path / "runs.jsonl"
    with Records(path).writing() as records:
        records.append({"settings": {**Settings().to_dict(), "version": "locl"}})
    with pytest.raises(ValueError, match=r"line 1 of .* not a record \(version must be one of"):
        Records(path).load()


def test_records_of_an_earlier_version_have_the_defaults_of_later_settings(tmp_path):
    path = tmp_path / "runs.jsonl"
    settings = Settings().to_dict()
    for name in ("validation_examples", "reset", "filters", "raised_rate"):
        del settings[name]
    with Records(path).writing() as records:
        records.append({"settings": settings})
    assert list(Records(path).load()) == [Settings()]


def test_settings_that_this_version_does_not_know_are_passed_over(tmp_path):
    path = tmp_path / "runs.jsonl"
    with Records(path).writing() as records:
        records.append({"settings": {**Settings().to_dict(), "gravity": 9.81}})
    assert Records(path).load() == {}
