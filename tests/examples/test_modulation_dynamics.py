import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("tensorflow_datasets")

from examples import command_line, data, modulation_dynamics
from tests.examples.refusal import refusal


def options_for(*arguments):
    return modulation_dynamics.parse(command_line.Parser(prog="modulation_dynamics"), arguments)


@pytest.mark.parametrize("method, status", [("propagating", " error "), ("local", " update ")])
def test_draws_both_panels(method, status, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(modulation_dynamics, "HIDDEN_LAYERS", 3)
    monkeypatch.setattr(modulation_dynamics, "HIDDEN_UNITS", 16)
    options = options_for("--epochs", "2", "--output", str(tmp_path), "--method", method)
    modulation_dynamics.show(data.load("digits").flattened(), options)
    summary, _, table = capsys.readouterr().out.partition("Modulation factors:")
    hidden = [line for line in summary.splitlines() if line.startswith("hidden_")]
    assert [status in line for line in hidden] == [True] * 3
    rows = [line.split() for line in table.splitlines() if line.startswith("hidden_")]
    assert [row[0] for row in rows] == ["hidden_1", "hidden_2", "hidden_3"]
    for row in rows:
        assert 1 <= float(row[1]) <= 2 and 1 <= float(row[4]) <= 2
    assert "after epoch 2" in table
    for picture in ("fig3a.png", "fig3b.png"):
        assert (tmp_path / picture).stat().st_size > 10_000


def test_the_learning_rate_depends_on_the_method(tmp_path):
    rates = [
        options_for("--method", method, "--output", str(tmp_path)).learning_rate
        for method in ("propagating", "local")
    ]
    assert rates[0] < rates[1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--method", "global"], "invalid choice"),
        (["--learning-rate", "0"], "must be a number above 0"),
    ],
)
def test_wrong_options_give_one_line(arguments, message, capsys):
    assert message in refusal(capsys, modulation_dynamics, *arguments)
