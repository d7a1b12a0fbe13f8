"""Hook of the site: a picture alone in its paragraph becomes a figure with its text as caption.

A figure links to its picture in full size: on a phone the panels of a wide one are too small.
"""

import re

# But for those that are figures already; two pictures are one for light and one for dark pages.
_PARAGRAPH = re.compile(r"(?<!<figure>\n)<p>((?:\s*<img [^>]*>)+)\s*</p>")
_FIGURE = re.compile(r"<figure\b.*?</figure>", re.DOTALL)
_IMAGE = re.compile(r'<img [^>]*\bsrc="([^"]+)"[^>]*>')
_TEXT = re.compile(r'\balt="([^"]+)"')


def on_page_content(page_html, **kwargs):
    """Called by MkDocs with every page once its Markdown is HTML."""
    return _FIGURE.sub(_with_links, _PARAGRAPH.sub(_as_figure, page_html))


def _as_figure(found):
    text = _TEXT.search(found[1])
    caption = f"<figcaption>{text[1]}</figcaption>" if text else ""
    return f"<figure>{found[1]}{caption}</figure>"


def _with_links(found):
    return _IMAGE.sub(lambda image: f'<a href="{image[1]}">{image[0]}</a>', found[0])
