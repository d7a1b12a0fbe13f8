"""Hook of the site: a picture alone in its paragraph becomes a figure with its text as caption."""

import re

# But for those that are figures already; two pictures are one for light and one for dark pages.
_PARAGRAPH = re.compile(r"(?<!<figure>\n)<p>((?:\s*<img [^>]*>)+)\s*</p>")
_TEXT = re.compile(r'\balt="([^"]+)"')


def on_page_content(page_html, **kwargs):
    """Called by MkDocs with every page once its Markdown is HTML."""
    return _PARAGRAPH.sub(_as_figure, page_html)


def _as_figure(found):
    text = _TEXT.search(found[1])
    caption = f"<figcaption>{text[1]}</figcaption>" if text else ""
    return f"<figure>{found[1]}{caption}</figure>"
