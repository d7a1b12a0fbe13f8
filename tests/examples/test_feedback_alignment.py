import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("tensorflow_datasets")

from examples import command_line, data, feedback_alignment, feedback_networks
from tests.examples.refusal import refusal


def options_for(*arguments):
    return feedback_alignment.parse(command_line.Parser(prog="feedback_alignment"), arguments)


def test_compares_eight_rules_and_draws_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(feedback_alignment, "HIDDEN_UNITS", (12, 11))
    options = options_for("--epochs", "2", "--output", str(tmp_path), "--learning-rate", "0.1")
    feedback_alignment.compare(data.load("digits"), options)
    lines = capsys.readouterr().out.split("After epoch 2:")[1].splitlines()
    rows = {line[:12].strip(): line[12:].split() for line in lines if " %" in line}
    names = [f"{rule}{more}" for rule in ("BP", "FA", "DFA", "IFA") for more in ("", " + GRAPES")]
    assert list(rows) == names
    for name, row in rows.items():
        # Accuracy, percent sign, loss, seconds, and an angle for each hidden layer.
        assert len(row) == (4 if name.startswith("BP") else 6)
        assert 10 < float(row[0]) <= 100
    assert len({row[2] for row in rows.values()}) == 8
    for picture in ("learning_curves.png", "alignment_angles.png"):
        assert (tmp_path / picture).stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("network", ["residual", "spiking"])
def test_compares_rules_on_other_networks(network, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(feedback_networks, "STAGES", (2, 4))
    monkeypatch.setattr(feedback_networks, "SPIKING_UNITS", (12, 11))
    options = options_for("--epochs", "1", "--output", str(tmp_path), "--network", network)
    feedback_alignment.compare(data.load("digits"), options)
    table = capsys.readouterr().out.split("After epoch 1:")[1]
    for rule in ("BP", "FA", "DFA", "SF"):
        assert f"\n{rule} " in table and f"\n{rule} + GRAPES" in table
    assert (tmp_path / "alignment_angles.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--epochs", "0"], "must be a whole number of at least 1"),
        (["--learning-rate", "-1"], "must be a number above 0"),
        (["--dataset", "emnist"], "invalid choice"),
        (["--network", "transformer"], "invalid choice"),
    ],
)
def test_wrong_options_give_one_line(arguments, message, capsys):
    assert message in refusal(capsys, feedback_alignment, *arguments)
