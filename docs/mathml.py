"""Hook of the site: turns formulas into MathML, which browsers show without a script or a font."""

import html
import re

from latex2mathml.converter import convert

# What `pymdownx.arithmatex` leaves of `$...$` and `$$...$$`.
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(page_html, **kwargs):
    """Called by MkDocs with every page once its Markdown is HTML."""
    return _FORMULA.sub(_as_mathml, page_html)


def _as_mathml(match):
    tag, bracket, formula = match.groups()
    display = "block" if bracket == "[" else "inline"
    return f'<{tag} class="formula">{convert(html.unescape(formula), display=display)}</{tag}>'
