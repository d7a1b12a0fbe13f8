import pytest

from keras_grapes.comparison.journal import BusyError, Journal


def write(path, entries):
    with Journal(path).writing() as journal:
        for entry in entries:
            journal.append(entry)


def test_entries_come_back_in_their_order(tmp_path):
    path = tmp_path / "runs.jsonl"
    assert list(Journal(path).read()) == []
    write(path, [{"a": 1}])
    write(path, [{"a": 2}])
    assert list(Journal(path).read()) == [(1, {"a": 1}), (2, {"a": 2})]


@pytest.mark.parametrize("cut", [1, 3])
def test_a_torn_last_line_is_passed_over_and_cut_off(tmp_path, cut):
    path = tmp_path / "runs.jsonl"
    write(path, [{"a": 1}, {"a": 2}])
    path.write_bytes(path.read_bytes()[:-cut])
    assert [entry for _, entry in Journal(path).read()] == [{"a": 1}]
    write(path, [{"a": 3}])
    assert [entry for _, entry in Journal(path).read()] == [{"a": 1}, {"a": 3}]


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(ValueError, match=r"line 2 of .*runs\.jsonl is not a record"):
        list(Journal(path).read())


def test_one_writer_at_a_time(tmp_path):
    pytest.importorskip("fcntl")
    with Journal(tmp_path / "runs.jsonl").writing():
        with pytest.raises(BusyError, match="another process is writing"):
            with Journal(tmp_path / "runs.jsonl").writing():
                pass


def test_numbers_that_json_does_not_know_are_refused(tmp_path):
    with Journal(tmp_path / "runs.jsonl").writing() as journal:
        with pytest.raises(ValueError, match="JSON"):
            journal.append({"loss": float("nan")})
    assert (tmp_path / "runs.jsonl").read_bytes() == b""
