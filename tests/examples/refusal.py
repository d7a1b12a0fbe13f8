"""How the scripts refuse an option."""

import pytest

from examples import command_line


def refusal(capsys, script, *arguments):
    """Returns the one line that the options of a script, a module, are refused with."""
    name = script.__name__.rpartition(".")[2]
    with pytest.raises(SystemExit) as caught:
        script.parse(command_line.Parser(prog=f"{name}.py"), list(arguments))
    captured = capsys.readouterr()
    assert caught.value.code == 2
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err
