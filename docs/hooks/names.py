"""The public names of the reference: where they are documented, and what their docstrings say.

The package is read, not imported.
"""

import dataclasses
import functools
import pathlib
import re

import griffe

ROOT = pathlib.Path(__file__).parents[2]
PAGES = ROOT / "docs" / "reference"
_ENTRY = re.compile(r"^::: (\S+)$", re.MULTILINE)
_GUIDE = re.compile(r"\]\(\.\./([\w/]+\.md)")


@dataclasses.dataclass(frozen=True)
class Name:
    """A public name.

    Args:
        path: String, as users import it, such as `keras_grapes.SNU`.
        page: String, the file in `docs/reference/` that has it.
        guides: Tuple of the pages that the text ahead of it, in its section, refers to.
    """

    path: str
    page: str
    guides: tuple

    @property
    def short(self):
        return self.path.rpartition(".")[2]

    @property
    def shown(self):
        """As the guides write it, such as `kg.SNU`."""
        return re.sub("^keras_grapes", "kg", self.path)

    @property
    def definition(self):
        """The class or function, as griffe has it."""
        found = package()
        for part in self.path.split(".")[1:]:
            found = found[part]
        return found.final_target if found.is_alias else found

    @property
    def summary(self):
        """The first line of its docstring."""
        docstring = self.definition.docstring
        return docstring.value.strip().split("\n")[0] if docstring else ""

    @property
    def source(self):
        """Tuple of the file, relative to the repository, and the first line of the definition."""
        file = pathlib.Path(self.definition.filepath).relative_to(ROOT)
        return file.as_posix(), self.definition.lineno


@functools.cache
def package():
    return griffe.load("keras_grapes", search_paths=[ROOT], resolve_aliases=True)


@functools.cache
def public_names():
    """Lists the names of all pages, in the order of each page."""
    return [name for page in sorted(PAGES.glob("*.md")) for name in _names_of(page)]


def _names_of(page):
    text = page.read_text(encoding="utf-8")
    for entry in _ENTRY.finditer(text):
        section = text[: entry.start()].rpartition("\n## ")[2]
        yield Name(entry[1], page.name, tuple(_GUIDE.findall(section)))
