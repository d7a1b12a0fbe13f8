"""The results in the documentation are what the records beside them say."""

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
SPEC = importlib.util.spec_from_file_location("write_results", ROOT / "tools" / "write_results.py")
write_results = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(write_results)

BLOCKS = [
    block
    for path in write_results.pages()
    for block in write_results.blocks(path.read_text(encoding="utf-8"))
]


def test_every_record_is_shown_once():
    files = [
        path.relative_to(write_results.DOCS) for path in write_results.RESULTS.rglob("*.jsonl")
    ]
    assert sorted(file for file, _, _ in BLOCKS) == sorted(map(str, files))


@pytest.mark.parametrize("file, preset, text", BLOCKS, ids=[file for file, _, _ in BLOCKS])
def test_page_shows_what_is_recorded(file, preset, text):
    assert text == write_results.render(file, preset)


def test_claims_are_counted_from_the_records():
    page = write_results.PAGE.read_text(encoding="utf-8")
    start, end = write_results.CLAIMS
    assert page.split(start)[1].split(end)[0].strip() == write_results.claims()


def test_records_without_validation_stand_under_no_study():
    for file, preset, text in BLOCKS:
        assert ("no validation images" in text) == (preset is None)
        assert file.startswith("results/earlier/") == (preset is None)


def test_each_measured_study_has_a_page_and_a_place_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    found = {path.stem for path in write_results.STUDY_PAGES.glob("*.md")}
    assert found == {path.stem for path in write_results.RESULTS.glob("*.jsonl")}
    for name in found:
        assert f": paper/{name}.md" in navigation
        assert (write_results.DOCS / "images" / f"{name}.png").exists()
