"""The tool that writes the outputs of the documentation's code below it."""

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("write_outputs", ROOT / "tools" / "write_outputs.py")
write_outputs = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(write_outputs)

PAGE = """# A page

```python
x = 2
print("two", x)
```

Text.

```python
y = x + 1
```
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(write_outputs, "PICTURES", tmp_path / "images" / "guides")
    return tmp_path / "page.md"


def write(page, text):
    page.write_text(text)
    page.write_text(write_outputs.written(page))
    return page.read_text()


def test_outputs_stand_below_the_blocks_that_print(page):
    text = write(page, PAGE)
    assert text == PAGE.replace("x)\n```\n", "x)\n```\n\n```output\ntwo 2\n```\n")
    assert write(page, text) == text


def test_an_output_that_changes_is_replaced_and_one_that_vanishes_removed(page):
    text = write(page, PAGE)
    changed = write(page, text.replace("x = 2", "x = 7"))
    assert "two 7" in changed and "two 2" not in changed
    assert "```output" not in write(page, changed.replace('print("two", x)', "x += 1"))


def test_numbers_that_agree_stay_as_they_are(page):
    text = write(page, PAGE.replace("x = 2", "x = 2.001"))
    assert "two 2.001" in write(page, text.replace("x = 2.001", "x = 2.002"))


@pytest.mark.parametrize(
    "old, new, agree",
    [
        ("accuracy 0.95", "accuracy 0.93", True),
        ("accuracy 0.95", "accuracy 0.88", False),
        ("gain 400.0", "gain 390.0", True),
        ("gain 400.0", "gain 370.0", False),
        ("units 32", "units 32", True),
        ("units 32", "units 33", False),
        ("loss 0.01", "loss nan", False),
        ("accuracy 0.95", "loss 0.95", False),
        ("a\nb", "a", False),
        ("| a   | 1.00 |\n| --- | ---- |", "| a | 1.00 |\n| ------ | --- |", True),
    ],
)
def test_what_agrees(old, new, agree):
    assert (write_outputs.difference(old, new) is None) == agree


def test_a_tolerance_of_the_page_goes_before_the_default(page):
    text = write(page, PAGE).replace("```output", "<!-- numbers within 3 -->\n\n```output")
    assert write(page, text.replace("x = 2", "x = 4")) == text.replace("x = 2", "x = 4")
    assert "two 6" in write(page, text.replace("x = 2", "x = 6"))


def test_words_that_differ_between_machines_are_not_compared(page):
    note = "<!-- output differs between machines -->\n\n```output"
    text = write(page, PAGE).replace("```output", note)
    changed = text.replace('"two"', '"three"')
    assert write(page, changed) == changed
    assert not list(problems(page, changed))
    assert list(problems(page, changed.replace('print("three", x)', "pass")))
    assert "three 2" in write_outputs.written(page, anew=True)


FIGURE = """```python
from matplotlib.figure import Figure

figure = Figure()
axes = figure.subplots()
axes.plot([0.1, 0.9])
axes.set(xlabel="epoch", ylabel="accuracy")
```
"""


def problems(page, text):
    for block, shown in zip(write_outputs.blocks(text), write_outputs.run(text, page)):
        yield from write_outputs.problems(block, *shown, page)


def test_figures_are_saved_and_shown(page):
    pytest.importorskip("matplotlib")
    text = write(page, FIGURE)
    assert text == FIGURE + "\n![accuracy over epoch](images/guides/page-1.png)\n"
    assert not list(problems(page, text))
    labelled = text.replace("accuracy over epoch", "A curve")
    assert write(page, labelled) == labelled


@pytest.mark.parametrize("old, new", [("0.9]", "0.5]"), ('"epoch"', '"step"'), ("0.9]", "0.9, 0]")])
def test_a_figure_that_shows_something_else_is_a_problem(page, old, new):
    pytest.importorskip("matplotlib")
    changed = write(page, FIGURE).replace(old, new)
    assert list(problems(page, changed))
    write(page, changed)
    assert not list(problems(page, changed))


def test_what_a_page_lacks_is_a_problem(page):
    assert "missing" in next(problems(page, PAGE))
    printed = write(page, PAGE)
    assert list(problems(page, printed.replace('print("two", x)', "pass")))
