"""Extension of the reference: shows what Keras has in docstrings and Google's style has not."""

import re

import griffe

_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_CALL_ARGUMENTS = re.compile(r"^Call arguments:$", re.MULTILINE)
_DOCTEST = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)


class KerasSections(griffe.Extension):
    def on_object(self, *, obj, **kwargs):
        if obj.docstring is not None:
            text = _EXAMPLE.sub("**Example:**", obj.docstring.value)
            text = _CALL_ARGUMENTS.sub("Other Parameters: Call arguments:", text)
            obj.docstring.value = _DOCTEST.sub(r"```pycon\n\g<0>\n```", text)
