"""Extension of the reference: shows what Keras has in docstrings and Google's style has not.

The first mention of each public name in a docstring becomes a link to its entry.
"""

import pathlib
import re
import sys

import griffe

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from names import public_names

_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_CALL_ARGUMENTS = re.compile(r"^Call arguments:$", re.MULTILINE)
_DOCTEST = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"(?<!\[)`([A-Za-z_][\w.]*)`")


class KerasSections(griffe.Extension):
    def on_object(self, *, obj, **kwargs):
        if obj.docstring is not None:
            text = with_links(obj.docstring.value, own=obj.name)
            text = _EXAMPLE.sub("**Example:**", text)
            text = _CALL_ARGUMENTS.sub("Other Parameters: Call arguments:", text)
            obj.docstring.value = _DOCTEST.sub(r"```pycon\n\g<0>\n```", text)


def with_links(text, own):
    """Links the first mention of each public name but the docstring's own.

    A class may be named without its module; other names are words of everyday English too.
    """
    targets = {name.path: name.path for name in public_names()}
    targets |= {name.short: name.path for name in public_names() if not name.short.islower()}
    linked = {own}

    def link(found):
        target = targets.get(found[1])
        short = found[1].rpartition(".")[2]
        if target is None or short in linked:
            return found[0]
        linked.add(short)
        return f"[{found[0]}][{target}]"

    return _NAME.sub(link, text)
