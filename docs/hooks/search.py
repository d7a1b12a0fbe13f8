"""Hook of the site: what the search finds first, and by words that a page does not use itself."""

from names import public_names

# Times as relevant as the text alone makes a page.
_BOOSTS = {
    "index.md": 2,
    "guides/": 2,
    "tutorials/": 1.5,
    "reference/": 1.5,
    "earlier_results.md": 0.3,
    "changelog.md": 0.3,
}


def on_page_markdown(markdown, page, config, **kwargs):
    """Called by MkDocs with every page."""
    uri = page.file.src_uri
    for start, boost in _BOOSTS.items():
        if uri.startswith(start):
            page.meta.setdefault("search", {}).setdefault("boost", boost)
    words = list(config.extra["search_words"].get(uri, ()))
    words += [name.short for name in public_names() if uri == f"reference/{name.page}"]
    if words:
        page.meta["tags"] = [*page.meta.get("tags", []), *words]
