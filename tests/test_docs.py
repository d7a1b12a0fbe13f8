"""The code of the documentation runs, page by page from the top, and its reference is complete."""

import importlib.util
import json
import pathlib
import re
import types

import keras
import pytest
import tensorflow as tf

import keras_grapes

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))


def module_at(path):
    """A module that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


write_outputs = module_at(ROOT / "tools" / "write_outputs.py")
links = module_at(DOCS / "hooks" / "links.py")
# They are to stay short, and show no outputs.
WITHOUT_OUTPUTS = {ROOT / "README.md", ROOT / "CONTRIBUTING.md"}
QUICK_NOTEBOOKS = {"quickstart"}
SLOW_PAGES = {"shipping_spiking_networks"}


def page_name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(path, marks=[pytest.mark.slow] if path.stem in SLOW_PAGES else [])
        for path in PAGES
    ],
    ids=page_name,
)
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


@pytest.mark.parametrize("page", sorted((DOCS / "guides").glob("*.md")), ids=page_name)
def test_every_guide_shows_what_its_code_gives(page):
    found = write_outputs.blocks(page.read_text(encoding="utf-8"))
    assert not found or any(block.images or block.output for block in found)


def test_every_picture_of_the_guides_is_shown():
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    unused = [path.name for path in write_outputs.PICTURES.glob("*") if path.name not in pages]
    assert not unused


@pytest.mark.parametrize(
    "notebook",
    [
        pytest.param(path, marks=[] if path.stem in QUICK_NOTEBOOKS else [pytest.mark.slow])
        for path in NOTEBOOKS
    ],
    ids=page_name,
)
def test_cells_of_notebooks_run(notebook, tmp_path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)

    def unavailable():
        raise OSError("no network")

    # On the digits, as without a network: it is quicker, and the same on every machine.
    monkeypatch.setattr(keras.datasets.mnist, "load_data", unavailable)
    names = {"__name__": "__main__"}
    with matplotlib.rc_context():
        for cell in cells_of(notebook):
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), str(notebook), "exec"), names)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=page_name)
def test_notebooks_say_what_one_learns_and_keep_their_outputs(notebook):
    cells = cells_of(notebook)
    assert "**You will learn**" in "".join(cells[0]["source"])
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["execution_count"] is not None
            kinds = [kind for output in cell["outputs"] for kind in output.get("data", {})]
            # The site shows it below the picture, and who cannot see the picture has it alone.
            assert ("image/svg+xml" in kinds) == ("caption" in cell["metadata"])
    # What they print tells which data it is from.
    assert "is not to be had" not in json.dumps([cell.get("outputs") for cell in cells])


def cells_of(notebook):
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_between_files_exist(page):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
    named = set(re.findall(r"[:-] (\S+\.md)$", navigation, re.MULTILINE))
    pages = {*DOCS.rglob("*.md"), *NOTEBOOKS}
    # The site makes a page of each notebook.
    pages = {page.relative_to(DOCS).with_suffix(".md") for page in pages}
    assert named == {page.as_posix() for page in pages}


def documented():
    """Names in the reference."""
    for page in sorted((DOCS / "reference").glob("*.md")):
        yield from re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def resolve(name):
    owner, _, attribute = name.rpartition(".")
    return getattr(resolve(owner), attribute) if owner else keras_grapes


def public(module):
    """Classes and functions that a module offers, those of its public modules included."""
    for name in module.__all__:
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


@pytest.fixture(scope="module")
def names():
    return links.Names(path.read_text("utf-8") for path in (DOCS / "reference").glob("*.md"))


@pytest.mark.parametrize("page", PAGES + NOTEBOOKS, ids=page_name)
def test_every_name_of_a_page_is_public_and_has_an_entry_to_link(page, names):
    for name in set(
        re.findall(r"\bkg\.([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)", page.read_text("utf-8"))
    ):
        value = resolve(f"keras_grapes.{name}")
        entry = names.find(name)
        if entry is not None:
            owner = resolve(entry)
            assert value is owner or value is getattr(owner, name.rpartition(".")[2])
        else:
            assert isinstance(value, types.ModuleType), name


@pytest.mark.parametrize(
    "code, entry",
    [
        ("kg.SNU", "keras_grapes.SNU"),
        ("kg.Grapes(optimizer, model=model)", "keras_grapes.Grapes"),
        ("Grapes", "keras_grapes.Grapes"),
        ("propagate", "keras_grapes.propagate"),
        ("AlignmentAngle", "keras_grapes.callbacks.AlignmentAngle"),
        ("kg.analysis.continual.forgetting", "keras_grapes.analysis.forgetting"),
        ("keras_grapes.Modulation", "keras_grapes.Modulation"),
        ("kg.summary", "keras_grapes.summary"),
        ("kg.layers.SNU", "keras_grapes.SNU"),
        ("modulation=kg.Modulation()", "keras_grapes.Modulation"),
        ("rule.compile(kg.Grapes(x))", "keras_grapes.Grapes"),
        ("plot", None),
        ("model.summary", None),
        ("SNUs", None),
        ("kg.hardware", None),
    ],
)
def test_a_code_span_that_names_an_entry_is_linked_to_it(code, entry, names):
    text = f"<p><code>{code}</code></p>"
    link = f'<autoref identifier="{entry}"><code>{code}</code></autoref>'
    assert links.linked(text, names) == (f"<p>{link}</p>" if entry else text)


@pytest.mark.parametrize(
    "text",
    ['<a href="x"><code>kg.SNU</code></a>', "<h2><code>kg.SNU</code></h2>", "<code>kg.SNU <b>"],
)
def test_what_is_linked_or_a_heading_stays_as_it_is(text, names):
    assert links.linked(text, names) == text


def test_names_in_blocks_of_code_are_linked(names):
    name = '<span class="n">kg</span><span class="o">.</span><span class="n">SNU</span>'
    text = f'<pre>{name}<span class="p">(</span></pre>'
    link = f'<autoref identifier="keras_grapes.SNU">{name}</autoref>'
    assert links.linked(text, names) == text.replace(name, link)


def test_the_citation_names_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {keras_grapes.__version__}\n" in citation
