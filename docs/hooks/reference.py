"""Hook of the site: the overview of the reference, and links from its entries.

Every entry leads to its source, which the site has as pages, and to where the guides explain it.
"""

import collections
import html
import posixpath
import re

from markdown.extensions.toc import slugify
from mkdocs.structure.files import File, InclusionLevel
from names import PAGES, ROOT, public_names

OVERVIEW = "<!-- overview -->"
# Where names are explained, as against listed or measured.
_EXPLAIN = ("guides/", "tutorials/", "how_it_works.md", "controls.md", "serving.md")
_LIST = ("guides/troubleshooting.md", "guides/backends.md")
_MOST_GUIDES = 3
_HEADING = re.compile(r"^(#+) (.*)$")
_HEADING_OF_ENTRY = re.compile(r'<h2 id="([\w.]+)" class="doc doc-heading">.*?</h2>', re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")
_pages = {}


def on_files(files, config):
    """Called by MkDocs with all files: adds the source of what the reference has."""
    for path in sorted({name.source[0] for name in public_names()}):
        text = (ROOT / path).read_text(encoding="utf-8")
        page = (
            f"---\nsearch:\n  exclude: true\nhide: [toc]\n---\n\n# {path}\n\n"
            f'~~~~~~{{ .python linenums="1" }}\n{text}~~~~~~\n'
        )
        uri = source_page(path)
        files.append(File.generated(config, uri, content=page, inclusion=InclusionLevel.NOT_IN_NAV))
    _pages.clear()
    _pages.update(
        {
            file.src_uri: file.content_string
            for file in files.documentation_pages()
            if file.src_uri.startswith(_EXPLAIN) and file.src_uri not in _LIST
        }
    )
    return files


def on_page_markdown(markdown, page, config, **kwargs):
    """Called by MkDocs with every page: fills in the overview."""
    if OVERVIEW not in markdown:
        return markdown
    pages = [path for path in reference_pages(config.nav) if path != page.file.src_uri]
    return markdown.replace(OVERVIEW, overview([posixpath.basename(path) for path in pages]))


def on_page_content(page_html, page, **kwargs):
    """Called by MkDocs with every page once its Markdown is HTML: adds the links of entries."""
    names = {n.path: n for n in public_names() if f"reference/{n.page}" == page.file.src_uri}

    def with_links(found):
        name = names.get(found[1])
        return found[0] + (links(name, _pages) if name else "")

    return _HEADING_OF_ENTRY.sub(with_links, page_html) if names else page_html


def reference_pages(navigation):
    """Lists the pages of the reference in the order of the navigation."""
    if isinstance(navigation, str):
        return [navigation] if navigation.startswith("reference/") else []
    parts = navigation.values() if isinstance(navigation, dict) else navigation
    return [path for part in parts for path in reference_pages(part)]


def overview(pages):
    """The overview as Markdown: a table for each page of the reference, a row for each name."""
    parts = []
    for page in pages:
        title = (PAGES / page).read_text(encoding="utf-8").split("\n")[0].removeprefix("# ")
        rows = [
            f"| [`{name.shown}`][{name.path}] | {name.summary.replace('`keras_grapes.', '`kg.')} |"
            for name in public_names()
            if name.page == page
        ]
        parts.append(
            "\n".join(
                [f"## [{title}]({page})\n", "| name | what it is |", "|------|------|", *rows]
            )
        )
    return "\n\n".join(parts)


def source_page(path):
    return "source/" + path.removesuffix(".py") + ".md"


def links(name, pages):
    """The links of an entry as HTML."""
    path, line = name.source
    source = f"../{source_page(path).removesuffix('.md')}.html#__codelineno-0-{line}"
    parts = [f'<a href="{source}">Source</a>']
    explained = explanations(name, pages)[:_MOST_GUIDES] or [(uri, "") for uri in name.guides]
    if explained:
        guides = [
            f'<a href="../{uri.removesuffix(".md")}.html#{slug}">{title(uri, pages)}</a>'
            for uri, slug in explained
        ]
        parts.append(f"In the guides: {', '.join(guides)}")
    return f'<p class="entry-links">{" · ".join(parts)}</p>'


def title(uri, pages):
    heading = next(line for line in pages[uri].splitlines() if line.startswith("# "))
    return html.escape(heading.removeprefix("# "))


def explanations(name, pages):
    """Where pages write of a name, those with most of it first.

    Args:
        name: `Name`.
        pages: Dict of the URI of a page to its Markdown.

    Returns:
        List of tuples of the URI and the anchor of the section in which the name comes up first,
        empty for the top of the page.
    """
    # Words of everyday English count only where they are called.
    called = r"(?:kg|keras_grapes)\.(?:\w+\.)*" if name.short.islower() else r"\b"
    pattern = re.compile(called + re.escape(name.short) + r"\b")
    found = []
    for uri, text in pages.items():
        counts = count_by_section(text, pattern)
        if counts:
            found.append((sum(counts.values()), uri, next(iter(counts))))
    found.sort(key=lambda entry: -entry[0])
    return [entry[1:] for entry in found]


def count_by_section(text, pattern):
    """How often the code of each section of a page has a pattern, by the section's anchor."""
    counts, anchor, level, in_block = collections.Counter(), "", 1, False
    used = set()
    for line in text.splitlines():
        if line.startswith("```"):
            in_block = not in_block
            continue
        heading = None if in_block else _HEADING.match(line)
        if heading:
            level = len(heading[1])
            anchor = (
                "" if level == 1 else slugify(re.sub(r"[`*]|\]\(.*?\)|\[", "", heading[2]), "-")
            )
            # Markdown numbers the anchors of equal headings: rather the top of the page.
            anchor = "" if anchor in used else anchor
            used.add(anchor)
        code = [line] if in_block else _CODE.findall(line)
        count = sum(len(pattern.findall(part)) for part in code)
        if count:
            counts[anchor] += count
    return counts
