"""Hook of the site: shows notebooks as pages like all others, with their stored outputs."""

import json
import posixpath
import re

from mkdocs.structure.files import File

_LINK_TO_NOTEBOOK = re.compile(r"(\]\((?!\w+:)[^)\s]*)\.ipynb(?=[)#\s])")


def on_files(files, config):
    """Called by MkDocs with all files: adds a page for each notebook, and its pictures."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        name = notebook.src_uri.removesuffix(".ipynb")
        text, pictures = as_markdown(json.loads(notebook.content_string), posixpath.basename(name))
        page = File.generated(config, f"{name}.md", content=text)
        page.edit_uri = notebook.src_uri
        files.append(page)
        for path, content in pictures.items():
            uri = posixpath.join(posixpath.dirname(name), path)
            files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown, **kwargs):
    """Called by MkDocs with every page: a link to a notebook leads to its page."""
    return _LINK_TO_NOTEBOOK.sub(r"\1.md", markdown)


def as_markdown(notebook, name):
    """Turns a notebook into Markdown.

    Args:
        notebook: Dict, the content of the file.
        name: String, the name of its file without the suffix.

    Returns:
        Tuple of the Markdown and a dict of pictures, from path relative to the page to content.
    """
    parts, pictures = [], {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(_fence(source, "python"))
        printed = ""
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                printed += "".join(output["text"])
                continue
            data = output.get("data", {})
            if "image/svg+xml" in data:
                path = f"{name}/picture-{len(pictures) + 1}.svg"
                pictures[path] = "".join(data["image/svg+xml"])
                # Jupyter has no place for the words that stand for a picture.
                parts.append(f"![{cell['metadata']['caption']}]({path})")
            elif "text/plain" in data:
                printed += "".join(data["text/plain"]) + "\n"
        if printed:
            # The picture of a cell comes after what it printed, as in most notebooks.
            parts.insert(_after_source(parts), _fence(printed.rstrip("\n"), "output"))
    title, *rest = parts[0].split("\n", 1)
    download = (
        f'<a class="md-button" href="{name}.ipynb" download>Download this tutorial as a notebook'
        "</a>\n{ .download }"
    )
    return "\n\n".join([title, download, *rest, *parts[1:]]) + "\n", pictures


def _fence(text, language):
    return f"```{language}\n{text}\n```"


def _after_source(parts):
    """The place behind the last block of code."""
    return max(i for i, part in enumerate(parts) if part.startswith("```python\n")) + 1
