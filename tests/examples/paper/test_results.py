"""The results in the documentation are what the records beside them say."""

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
SPEC = importlib.util.spec_from_file_location("write_results", ROOT / "tools" / "write_results.py")
write_results = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(write_results)

NAMES = sorted(path.stem for path in write_results.RESULTS.glob("*.jsonl"))


def test_studies_are_measured():
    assert {"controls", "fig3", "fig4", "fig5", "fig6", "fig7"} < set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_page_shows_what_is_recorded(name):
    report = write_results.load(name, write_results.RESULTS / f"{name}.jsonl")
    assert len(report.records) == report.runs
    if name == "controls":  # It has a page of its own.
        assert report.tables in (ROOT / "docs" / "controls.md").read_text(encoding="utf-8")
        return
    page = write_results.PAGE.read_text(encoding="utf-8")
    assert write_results.block_in(page, name) == write_results.block(report)
