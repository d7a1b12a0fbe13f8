"""Hook of the site: links names of the package to the reference.

In every page, each public name in a code span or a block of code (`kg.SNU`, `Grapes(...)`) becomes
a link to its entry.
"""

import collections
import html
import re

_ENTRY = re.compile(r"^::: (keras_grapes[\w.]*)$", re.MULTILINE)
# What stands in a code span: a name, perhaps called, or `kg.` and a dotted name somewhere.
_NAME = re.compile(r"([A-Za-z_]\w*)(?=$|\()")
_WITH_PREFIX = re.compile(r"\b(?:kg|keras_grapes)\.([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
# Code spans, and the elements in which nothing is linked.
_TOKEN = re.compile(r"<(/?)(a|pre|h[1-6]|autoref)\b[^>]*>|<code>([^<]+)</code>")
_IN_CODE = re.compile(
    r'<span class="n">kg</span>((?:<span class="o">\.</span><span class="n">\w+</span>)+)'
)


class Names:
    """The names in the reference.

    Args:
        pages: Iterable of the texts of the reference's pages.
    """

    def __init__(self, pages):
        self.entries = {name for page in pages for name in _ENTRY.findall(page)}
        by_end = collections.defaultdict(set)
        for name in self.entries:
            by_end[name.rpartition(".")[2]].add(name)
        self._by_end = {end: names.pop() for end, names in by_end.items() if len(names) == 1}

    def find(self, name):
        """The entry of a dotted name after `kg.`, or `None`; of an attribute, that of its owner."""
        parts = name.split(".")
        for end in range(len(parts), 0, -1):
            whole = ".".join(["keras_grapes", *parts[:end]])
            if whole in self.entries:
                return whole
            # `kg.analysis.continual.forgetting` is at `keras_grapes.analysis.forgetting`.
            known = self._by_end.get(parts[end - 1])
            if known and (
                known.count(".") == 1 or parts[0] in (parts[end - 1], known.split(".")[1])
            ):
                return known
        return None

    def find_in_span(self, code):
        """The entry of what a code span names first, or `None`."""
        match = _NAME.match(code)
        # Without `kg.`, words such as `plot` may mean anything.
        if match and (known := self._by_end.get(match[1])):
            if match[1][0].isupper() or known.count(".") == 1:
                return known
        match = _WITH_PREFIX.search(code)
        return match and self.find(match[1])


def linked(page_html, names):
    """The HTML of a page with links around what names an entry."""
    closed = collections.Counter()

    def span(match):
        end, tag, code = match.groups()
        if tag:
            closed[tag] += -1 if end else 1
            return match[0]
        entry = None if +closed else names.find_in_span(html.unescape(code))
        return f'<autoref identifier="{entry}">{match[0]}</autoref>' if entry else match[0]

    def call(match):
        entry = names.find(re.sub(r"<[^>]*>", "", match[1]).removeprefix("."))
        return f'<autoref identifier="{entry}">{match[0]}</autoref>' if entry else match[0]

    return _TOKEN.sub(span, _IN_CODE.sub(call, page_html))


_site = {}


def on_files(files, **kwargs):
    """Called by MkDocs with all files: reads which names the reference has."""
    pages = (f.content_string for f in files if f.src_uri.startswith("reference/"))
    _site["names"] = Names(pages)
    return files


def on_page_content(page_html, page, **kwargs):
    """Called by MkDocs with every page once its Markdown is HTML."""
    return (
        page_html if page.file.src_uri.startswith("source/") else linked(page_html, _site["names"])
    )
