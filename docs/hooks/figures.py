"""Hook of the site: pictures with their caption below, each in a version for dark pages.

A picture alone in its paragraph gets its text as caption. An SVG that Matplotlib drew with its own
black on white gets a second version, in which black, white and dark blue change places with what
is legible on a dark page; `NAME-light.svg` and `NAME-dark.svg` are such a pair already.
"""

import posixpath
import re

from mkdocs.structure.files import File

# The page's own colours in Material's dark scheme; Okabe and Ito's lighter blue for the darker one.
_DARK = {"#000000": "#e4e6eb", "#ffffff": "#1e2129", "#0072b2": "#56b4e9"}
_PARAGRAPH = re.compile(r"<p>((?:\s*<img [^>]*>)+)\s*</p>")
_PICTURE = re.compile(r"<img [^>]*>")
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')


def on_files(files, config):
    """Called by MkDocs with all files: adds the dark versions."""
    for file in list(files):
        if is_drawn_once(file.src_uri) and "matplotlib" in file.content_string[:2000].lower():
            content = darken(file.content_string)
            files.append(File.generated(config, dark_name(file.src_uri), content=content))
    return files


def on_page_content(page_html, page, files, **kwargs):
    """Called by MkDocs with every page once its Markdown is HTML."""
    folder = posixpath.dirname(page.file.src_uri)

    def exists(path):
        return files.get_file_from_path(posixpath.normpath(posixpath.join(folder, path)))

    return _PARAGRAPH.sub(lambda found: as_figure(found[1], exists), page_html)


def is_drawn_once(path):
    return path.endswith(".svg") and not re.search(r"-(light|dark)\.svg$", path)


def dark_name(path):
    return path.removesuffix(".svg") + "-dark.svg"


def darken(svg):
    """The same picture for dark pages."""
    for color, other in _DARK.items():
        svg = re.sub(color, other, svg, flags=re.IGNORECASE)
    # Matplotlib leaves out the black of fills, as SVG has it by itself.
    return svg.replace("<svg ", f'<svg fill="{_DARK["#000000"]}" ', 1)


def as_figure(pictures, exists):
    """Images of one paragraph as a figure, with the text of the first of them as caption.

    Args:
        pictures: String, `<img>` tags.
        exists: Function that tells whether a path leads to a file.
    """
    shown = []
    for tag in _PICTURE.findall(pictures):
        source = dict(_ATTRIBUTE.findall(tag))["src"]
        if is_drawn_once(source) and exists(dark_name(source)):
            shown.append(tag.replace(f'src="{source}"', f'src="{source}#only-light"'))
            shown.append(tag.replace(f'src="{source}"', f'src="{dark_name(source)}#only-dark"'))
        else:
            shown.append(tag)
    caption = dict(_ATTRIBUTE.findall(shown[0])).get("alt", "")
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure>{''.join(shown)}{below}</figure>"
