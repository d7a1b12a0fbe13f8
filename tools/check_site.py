"""Looks for what is broken in the built site, and for what it would load from a network.

mkdocs build && python tools/check_site.py site
"""

import html.parser
import pathlib
import re
import sys
import urllib.parse

# Attributes by which a page loads something, as against links that a reader may follow.
LOADED = {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
# Of `<link>`, those that load nothing.
NOT_LOADED = {"canonical", "next", "prev", "alternate"}


class Page(html.parser.HTMLParser):
    """The anchors of a page, and what it refers to."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.references = {""}, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors.update(attributes[key] for key in ("id", "name") if attributes.get(key))
        for key in ("href", "src"):
            if attributes.get(key) is not None:
                names = set((attributes.get("rel") or "").split())
                loaded = (tag, key) in LOADED and not names & NOT_LOADED
                self.references.append((attributes[key], loaded))


def problems(site):
    """Yields a line for each reference that leads nowhere or into the network."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # Its links are for the root of a server.
        for reference, loaded in page.references:
            url = urllib.parse.urlsplit(reference)
            if url.scheme == "data" or (url.scheme in ("http", "https", "mailto") and not loaded):
                continue
            where = path.relative_to(site.resolve())
            if url.scheme or url.netloc:
                yield f"{where} loads {reference}"
                continue
            target = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
            if not target.exists():
                yield f"{where}: {reference} leads to no file"
            elif (
                target in pages and urllib.parse.unquote(url.fragment) not in pages[target].anchors
            ):
                yield f"{where}: {reference} leads to no anchor"
    for path in sorted(site.rglob("*.css")):
        for reference in re.findall(r"url\(\s*['\"]?(https?:[^)'\"]+)", path.read_text("utf-8")):
            yield f"{path.relative_to(site)} loads {reference}"


def main():
    if len(sys.argv) != 2 or not pathlib.Path(sys.argv[1]).is_dir():
        sys.exit(f"Usage: python {sys.argv[0]} FOLDER_OF_THE_BUILT_SITE")
    found = list(problems(pathlib.Path(sys.argv[1])))
    for line in found:
        print(line)
    print(f"{len(found)} problems")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
