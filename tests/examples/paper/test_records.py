import pytest

from examples.paper.records import BusyError, Records
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


@pytest.mark.parametrize("cut", [1, 2, 40])
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


def test_settings_that_this_version_does_not_know_are_passed_over(tmp_path):
    path = tmp_path / "runs.jsonl"
    with Records(path).writing() as records:
        records.append({"settings": {**Settings().to_dict(), "gravity": 9.81}})
    assert Records(path).load() == {}


def test_one_writer_at_a_time(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "runs.jsonl"
    with Records(path).writing():
        with pytest.raises(BusyError, match="another study is writing"):
            with Records(path).writing():
                pass
    write(path, [0])


def test_numbers_that_json_does_not_know_are_refused(tmp_path):
    with Records(tmp_path / "runs.jsonl").writing() as records:
        with pytest.raises(ValueError, match="JSON"):
            records.append({"loss": float("nan")})
    assert (tmp_path / "runs.jsonl").read_bytes() == b""
