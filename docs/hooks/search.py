"""Hook of the site: what the search finds first, and by words that a page does not use itself."""

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
    words = config.extra["search_words"].get(uri)
    if words:
        page.meta["tags"] = [*page.meta.get("tags", []), *words]
