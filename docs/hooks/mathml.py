"""Hook of the site: turns formulas into MathML, which browsers show without a script or a font."""

import html
import re

from latex2mathml.converter import convert

# What `pymdownx.arithmatex` leaves of `$...$` and `$$...$$`.
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)

_PRIME = re.compile(r"<msup>(<mi>\w</mi>)<mi>&#x02032;</mi></msup>")


def on_page_content(page_html, **kwargs):
    """Called by MkDocs with every page once its Markdown is HTML."""
    return _FORMULA.sub(_as_mathml, page_html)


def _as_mathml(match):
    tag, bracket, formula = match.groups()
    display = "block" if bracket == "[" else "inline"
    formula = convert(html.unescape(formula), display=display)
    # A prime is drawn raised already: as a superscript it would all but vanish.
    formula = _PRIME.sub(r"<mrow>\1<mo>&#x02032;</mo></mrow>", formula)
    return f'<{tag} class="formula">{formula}</{tag}>'
