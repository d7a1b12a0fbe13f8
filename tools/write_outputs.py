"""Writes what the Python blocks of the documentation print and draw below them.

    python tools/write_outputs.py
    python tools/write_outputs.py docs/guides/saving.md --jobs 2

Each page runs in a process of its own, its blocks in order, in an empty folder. What a block prints
goes into a block of `output` below it; a figure that it assigns to a name goes to
`docs/images/guides/`, with a line that shows it. What agrees with the page within the tolerance
stays as it is, and so does the text of an image line. `tests/test_docs.py` runs the same blocks and
compares. Where numbers differ more between machines, a line below the code says by how much; where
words may differ too, such as a verdict, only that there is an output is tested:

    <!-- numbers within 2 -->
    <!-- output differs between machines -->
"""

import argparse
import ast
import contextlib
import dataclasses
import io
import math
import multiprocessing
import os
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PICTURES = DOCS / "images" / "guides"
# By how much a number with a decimal point may differ: absolute and relative.
ABSOLUTE, RELATIVE = 0.02, 0.05

_BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n"
    r"(?P<note>\n<!-- (?:numbers within (?P<within>\S+)|output differs between machines) -->\n)?"
    r"(?:\n```output\n(?P<output>.*?)^```\n)?"
    r"(?P<images>(?:\n!\[[^\]]*\]\([^)\s]*images/guides/[^)\s]+\)\n)*)",
    re.DOTALL | re.MULTILINE,
)
_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code, with what the page shows below it.

    Args:
        code: String.
        output: String, empty where the page shows none.
        within: Float, by how much numbers of the output may differ, `inf` where words may too, or
            `None` for the default.
        images: List of pairs: text and address.
    """

    code: str
    output: str
    within: float | None
    images: list

    @classmethod
    def of(cls, match):
        within = match["within"] or (match["note"] and "inf")
        images = _IMAGE.findall(match["images"])
        return cls(match["code"], match["output"] or "", within and float(within), images)


def blocks(text):
    """Lists the blocks of Python of a page."""
    return [Block.of(match) for match in _BLOCK.finditer(text)]


def run(text, path):
    """Runs a page in this process and this folder; yields a pair for each of its blocks.

    Args:
        text: String, the page.
        path: Path or string, its name in error messages.

    Returns:
        A generator of pairs: the text that the block printed, and a list of the figures that it
        has bound to names.
    """
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    names = {"__name__": "__main__"}
    for block in blocks(text):
        before = {id(value) for value in names.values()}
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(ast.parse(block.code, str(path)), str(path), "exec"), names)
        new = {id(v): v for v in names.values() if _is_figure(v) and id(v) not in before}
        lines = [line.rstrip() for line in printed.getvalue().strip("\n").split("\n")]
        yield "\n".join(lines) + "\n" * any(lines), list(new.values())


def _is_figure(value):
    # Not by importing matplotlib, which most pages do without.
    return any(t.__module__ == "matplotlib.figure" for t in type(value).__mro__)


def describe(figure):
    """What a figure shows, as text to compare: axes, legends, and the ranges of curves."""
    lines = []
    for ax in figure.axes:
        lines.append(" | ".join([ax.get_title(), ax.get_xlabel(), ax.get_ylabel()]))
        if ax.get_legend():
            lines.append(" | ".join(t.get_text() for t in ax.get_legend().get_texts()))
        for line in ax.lines:
            y = [float(value) for value in line.get_ydata() if math.isfinite(value)]
            ends = f"from {y[0]:.3f} to {y[-1]:.3f}" if y else "empty"
            lines.append(f"curve of {len(line.get_ydata())}, {ends}")
        parts = [len(ax.patches), len(ax.collections), len(ax.images)]
        lines.append("patches {}, collections {}, images {}".format(*parts))
    return "\n".join(lines)


def difference(expected, found, within=None):
    """Says where two texts differ, or returns `None`.

    Integers are compared exactly, other numbers within a tolerance; the width of columns is not
    compared.

    Args:
        expected: String.
        found: String.
        within: Float, the absolute tolerance in place of the default, for integers too; `inf` where
            nothing is compared.
    """
    if within == math.inf:
        return None
    old, new = expected.strip().split("\n"), found.strip().split("\n")
    for a, b in zip(old, new):
        if not _line_agrees(a, b, within):
            return f"- {a}\n+ {b}"
    if len(old) != len(new):
        return f"{len(old)} lines on the page, {len(new)} now"
    return None


def _line_agrees(a, b, within):
    a, b = (re.sub(r"-{3,}", "---", " ".join(line.split())) for line in (a, b))
    if _NUMBER.sub("#", a) != _NUMBER.sub("#", b):
        return False
    return all(_agrees(x, y, within) for x, y in zip(_NUMBER.findall(a), _NUMBER.findall(b)))


def _agrees(x, y, within):
    if within is None and x.lstrip("+-").isdigit() and y.lstrip("+-").isdigit():
        return int(x) == int(y)
    gap = abs(float(x) - float(y))
    return gap <= (ABSOLUTE + RELATIVE * abs(float(x)) if within is None else within)


def problems(block, printed, figures, page):
    """Yields what a block shows now and its page does not."""
    if bool(block.output) != bool(printed):
        yield f"the output is missing:\n{printed}" if printed else "nothing is printed any more"
    elif found := difference(block.output, printed, block.within):
        yield found
    if len(block.images) != len(figures):
        yield f"{len(figures)} figures drawn, {len(block.images)} on the page"
    for (_, address), figure in zip(block.images, figures):
        if found := _picture_problem((page.parent / address), figure, block.within):
            yield f"{address}:\n{found}"


def _picture_problem(path, figure, within):
    if not path.exists():
        return "no such picture"
    from PIL import Image

    with Image.open(path) as picture:
        known = picture.info.get("Description", "")
    return difference(known, describe(figure), within)


def _save(figure, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None, "Description": describe(figure)})


def written(page, anew=False):
    """The text of a page with its outputs as they are now; saves its pictures.

    Args:
        page: Path.
        anew: Bool, whether to replace what agrees too.
    """
    text = page.read_text(encoding="utf-8")
    shown = list(run(text, page))
    count = 0
    parts, end = [], 0
    for match, (printed, figures) in zip(_BLOCK.finditer(text), shown):
        block = Block.of(match)
        keep = bool(block.output) == bool(printed) and not anew
        output = (
            block.output
            if keep and not difference(block.output, printed, block.within)
            else printed
        )
        parts += [text[end : match.start()], f"```python\n{block.code}```\n", match["note"] or ""]
        if output:
            parts.append(f"\n```output\n{output}```\n")
        for number, figure in enumerate(figures):
            count += 1
            picture = PICTURES / f"{page.stem}-{count}.png"
            if number < len(block.images):
                label = block.images[number][0]
            else:
                label = _label(figure)
            if anew or _picture_problem(picture, figure, block.within):
                _save(figure, picture)
            address = pathlib.PurePath(os.path.relpath(picture, page.parent)).as_posix()
            parts.append(f"\n![{label}]({address})\n")
        end = match.end()
    return "".join([*parts, text[end:]])


def _label(figure):
    ax = figure.axes[0]
    return ax.get_title() or f"{ax.get_ylabel()} over {ax.get_xlabel()}"


def _write(job):
    page, anew = job
    before = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            text = written(page, anew)
        except Exception as error:
            return page, f"{type(error).__name__}: {error}"
        finally:
            os.chdir(ROOT)
    if page.read_text(encoding="utf-8") != before:
        return page, "changed while it ran, run it again"
    page.write_text(text, encoding="utf-8")
    return page, "written" if text != before else "as it was"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", type=pathlib.Path, nargs="*", help="default: all of docs/")
    parser.add_argument("--jobs", type=int, default=1, help="pages to run at a time")
    parser.add_argument("--anew", action="store_true", help="replace what agrees too")
    options = parser.parse_args()
    every = sorted(DOCS.rglob("*.md"))
    pages = [page.resolve() for page in options.pages] or [
        page for page in every if blocks(page.read_text(encoding="utf-8"))
    ]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["MPLBACKEND"] = "agg"
    failed = False
    # A new process for each page: layers are numbered from the first, and nothing is left over.
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for page, said in pool.imap(_write, [(page, options.anew) for page in pages], chunksize=1):
            print(f"{page.relative_to(ROOT)}: {said}", flush=True)
            failed |= said not in ("written", "as it was")
    sys.exit(failed)


if __name__ == "__main__":
    main()
