"""The hooks of the site, and the check of the built pages."""

import importlib
import pathlib
import re
import subprocess
import sys
import types

import pytest

ROOT = pathlib.Path(__file__).parents[1]


HOOKS = ROOT / "docs" / "hooks"


def hook(name):
    """A module of the hooks, of those that stand beside it too."""
    sys.path.insert(0, str(HOOKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(HOOKS))


def check(site):
    command = [sys.executable, ROOT / "tools" / "check_site.py", site]
    return subprocess.run(command, capture_output=True, text=True)


def test_check_finds_what_is_broken_and_what_is_loaded_from_a_network(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html#here">b</a><a href="https://keras.io">k</a>'
        '<a href="#top">top</a><img src="data:image/png;base64,AA">'
    )
    (tmp_path / "b.html").write_text('<p id="here">B</p><a href="a.html">a</a>')
    good = check(tmp_path)
    assert (good.returncode, good.stdout) == (0, "0 problems\n")
    (tmp_path / "b.html").write_text(
        '<a href="a.html#gone"></a><a href="gone.html"></a><img src="gone.png">'
        '<script src="https://cdn.example/x.js"></script>'
        '<link rel="stylesheet" href="//fonts.example/x.css">'
    )
    bad = check(tmp_path)
    assert bad.returncode == 1
    assert bad.stdout.splitlines() == [
        "a.html: b.html#here leads to no anchor",
        "b.html: a.html#gone leads to no anchor",
        "b.html: gone.html leads to no file",
        "b.html: gone.png leads to no file",
        "b.html loads https://cdn.example/x.js",
        "b.html loads //fonts.example/x.css",
        "6 problems",
    ]


def test_check_says_how_it_is_used(tmp_path):
    done = check(tmp_path / "none")
    assert done.returncode == 1
    assert done.stderr.startswith("Usage: ")


def test_formulas_become_mathml():
    pytest.importorskip("latex2mathml")
    page = (
        '<p>If <span class="arithmatex">\\(a &lt; b\\)</span>:</p>'
        '<div class="arithmatex">\\[\nx^2\n\\]</div>'
    )
    shown = hook("mathml").on_page_content(page)
    assert shown.count("<math") == 2
    assert 'display="inline"' in shown and 'display="block"' in shown
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in shown
    assert "arithmatex" not in shown and "\\(" not in shown


def test_a_notebook_becomes_a_page_with_its_outputs():
    pytest.importorskip("mkdocs")
    picture = {"image/svg+xml": "<svg/>", "text/plain": "<Figure>"}
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": ["# Title\n", "Words."]},
            {
                "cell_type": "code",
                "source": ["plot()\n", "print(1)"],
                "metadata": {"caption": "A curve"},
                "outputs": [
                    {"output_type": "display_data", "data": picture},
                    {"output_type": "stream", "text": ["1\n"]},
                ],
            },
        ]
    }
    text, pictures = hook("notebooks").as_markdown(notebook, "first")
    title, download, *rest = text.split("\n\n")
    assert title == "# Title"
    assert 'href="first.ipynb" download' in download
    assert rest == [
        "Words.",
        "```python\nplot()\nprint(1)\n```",
        "```output\n1\n```",
        "![A curve](first/picture-1.svg)\n",
    ]
    assert pictures == {"first/picture-1.svg": "<svg/>"}


def test_a_link_to_a_notebook_leads_to_its_page():
    pytest.importorskip("mkdocs")
    text = "[a](tutorials/compare.ipynb), [b](compare.ipynb#data), [c](https://x.org/c.ipynb)"
    assert hook("notebooks").on_page_markdown(text) == (
        "[a](tutorials/compare.md), [b](compare.md#data), [c](https://x.org/c.ipynb)"
    )


def test_a_picture_alone_gets_its_text_as_caption():
    figure = '<figure><img alt="A curve" src="a.png"><figcaption>A curve</figcaption></figure>'
    picture = '<p><img alt="A curve" src="a.png"></p>'
    shown = hook("figures").on_page_content
    assert shown(picture) == figure
    for other in ("<figure>\n" + picture, '<p>See <img alt="A" src="a.png"></p>'):
        assert shown(other) == other


def test_the_search_finds_pages_by_words_that_they_do_not_use():
    config = pytest.importorskip("mkdocs.config").load_config(str(ROOT / "mkdocs.yml"))
    for uri, words in config.extra["search_words"].items():
        path = ROOT / "docs" / uri
        assert path.exists() or path.with_suffix(".ipynb").exists(), uri
        page = types.SimpleNamespace(file=types.SimpleNamespace(src_uri=uri), meta={})
        hook("search").on_page_markdown("", page, config)
        assert page.meta["tags"][: len(words)] == words


@pytest.fixture(scope="module")
def reference():
    pytest.importorskip("griffe")
    pytest.importorskip("mkdocs")
    return hook("reference")


def test_the_overview_has_a_line_for_every_public_name(reference):
    names = hook("names").public_names()
    rows = re.findall(r"^\| \[`(\S+)`\]\[(\S+)\] \| (.+) \|$", overview(reference), re.MULTILINE)
    assert sorted(path for _, path, _ in rows) == sorted(name.path for name in names)
    lines = {path: line for _, path, line in rows}
    assert lines["keras_grapes.SNU"] == "Layer of spiking neural units over a sequence."
    assert all(line.endswith(".") and len(line) < 110 for line in lines.values())


def overview(reference):
    return reference.overview(sorted(path.name for path in reference.PAGES.glob("[!i]*.md")))


def test_an_entry_leads_to_its_definition(reference):
    for name in hook("names").public_names():
        path, line = name.source
        text = (ROOT / path).read_text(encoding="utf-8").split("\n")[line - 1]
        assert re.match(rf"(class|def|@).*|{name.short} = ", text), name


def test_an_entry_leads_to_the_section_that_first_explains_it(reference):
    names = {name.short: name for name in hook("names").public_names()}
    pages = {
        "guides/a.md": "# A\n\nSNU and `strip` in words.\n\n## The unit\n\n`kg.SNU` and `SNU`\n",
        "guides/b.md": "# B\n\n```python\nkg.SNU(2)\n```\n\n## Later\n\n`kg.strip(model)`\n",
    }
    found = reference.explanations(names["SNU"], pages)
    assert found == [("guides/a.md", "the-unit"), ("guides/b.md", "")]
    assert reference.explanations(names["strip"], pages) == [("guides/b.md", "later")]
    links = reference.links(names["SNU"], pages)
    assert 'href="../source/keras_grapes/layers/snu.html#__codelineno-0-' in links
    assert '<a href="../guides/a.html#the-unit">A</a>' in links


@pytest.mark.slow
def test_the_site_builds_and_nothing_in_it_is_broken(tmp_path):
    pytest.importorskip("mkdocstrings_handlers.python")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    command += ["--site-dir", str(tmp_path / "site")]
    subprocess.run(command, cwd=ROOT, check=True)
    done = check(tmp_path / "site")
    assert done.returncode == 0, done.stdout
