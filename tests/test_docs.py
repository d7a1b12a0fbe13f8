"""The code of the documentation runs, page by page from the top, and its reference is complete."""

import importlib.util
import inspect
import json
import pathlib
import re
import sys
import types

import pytest
import tensorflow as tf

import keras_grapes

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))
SPEC = importlib.util.spec_from_file_location("write_outputs", ROOT / "tools" / "write_outputs.py")
write_outputs = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(write_outputs)
# They are to stay short, and show no outputs.
WITHOUT_OUTPUTS = {ROOT / "README.md", ROOT / "CONTRIBUTING.md"}
SLOW_NOTEBOOKS = {"feedback_alignment", "spiking_networks"}


def page_name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_code_blocks_run_and_give_the_outputs_of_the_page(page, tmp_path, monkeypatch, two_devices):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    # Two strategies in one process collide.
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: two_devices)
    text = page.read_text(encoding="utf-8")
    if "from sklearn" in text:
        pytest.importorskip("sklearn")
    if "images/guides/" in text:
        pytest.importorskip("matplotlib")
    found = []
    for block, (printed, figures) in zip(write_outputs.blocks(text), write_outputs.run(text, page)):
        if page not in WITHOUT_OUTPUTS:
            for problem in write_outputs.problems(block, printed, figures, page):
                found.append(f"{block.code}{problem}")
    remedy = f"python tools/write_outputs.py {page_name(page)}"
    assert not found, "\n\n".join([*found, f"If that is right: {remedy}"])


def test_every_picture_of_the_guides_is_shown():
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    unused = [path.name for path in write_outputs.PICTURES.glob("*") if path.name not in pages]
    assert not unused


@pytest.mark.parametrize(
    "notebook",
    [
        pytest.param(path, marks=[pytest.mark.slow] if path.stem in SLOW_NOTEBOOKS else [])
        for path in NOTEBOOKS
    ],
    ids=page_name,
)
def test_cells_of_notebooks_run(notebook, tmp_path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), str(notebook), "exec"), names)
            # Kept with what it printed and drew, as the site shows it.
            assert cell["execution_count"] is not None


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_between_files_exist(page):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
    named = set(re.findall(r": (\S+\.(?:md|ipynb))$", navigation, re.MULTILINE))
    pages = {*DOCS.rglob("*.md"), *NOTEBOOKS}
    assert named == {str(page.relative_to(DOCS)) for page in pages}


def documented():
    """Names in the reference."""
    for page in sorted((DOCS / "reference").glob("*.md")):
        yield from re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def resolve(name):
    # `keras_grapes.models.summary` is a module and a function of it: the module comes first.
    owner, _, attribute = name.rpartition(".")
    if not owner:
        return keras_grapes
    return getattr(sys.modules[owner] if owner in sys.modules else resolve(owner), attribute)


def public(module):
    """Classes and functions that a module offers, those of its public modules included."""
    names = getattr(module, "__all__", None)
    if names is None:
        own = inspect.getmembers(module, lambda v: getattr(v, "__module__", "") == module.__name__)
        names = [name for name, value in own if not name.startswith("_") and callable(value)]
    for name in names:
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            yield from public(value)
        elif callable(value):
            yield value


def test_the_reference_has_every_public_name_once():
    names = list(documented())
    assert len(set(names)) == len(names)
    values = [resolve(name) for name in names]
    missing = {f"{v.__module__}.{v.__qualname__}" for v in public(keras_grapes) if v not in values}
    assert not missing


def test_the_citation_names_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {keras_grapes.__version__}\n" in citation
