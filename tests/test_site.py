"""The tools of the site: formulas without a network, and the check of the built pages."""

import importlib.util
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    hook = load(pathlib.Path("docs/mathml.py"))
    page = (
        '<p>If <span class="arithmatex">\\(a &lt; b\\)</span>:</p>'
        '<div class="arithmatex">\\[\nx^2\n\\]</div>'
    )
    shown = hook.on_page_content(page)
    assert shown.count("<math") == 2
    assert 'display="inline"' in shown and 'display="block"' in shown
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in shown
    assert "arithmatex" not in shown and "\\(" not in shown


@pytest.mark.slow
def test_the_site_builds_and_nothing_in_it_is_broken(tmp_path):
    pytest.importorskip("mkdocs_jupyter")
    pytest.importorskip("mkdocstrings_handlers.python")
    assert shutil.which("mkdocs")
    command = ["mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    subprocess.run(command, cwd=ROOT, check=True)
    done = check(tmp_path / "site")
    assert done.returncode == 0, done.stdout
