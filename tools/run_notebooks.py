"""Runs the notebooks of the documentation and keeps what they print and draw.

    python tools/run_notebooks.py                               # all
    python tools/run_notebooks.py docs/tutorials/compare.ipynb

Pictures are kept as SVG: the site makes those for dark pages from them.
"""

import pathlib
import sys
import tempfile

import nbformat
from nbclient import NotebookClient

TUTORIALS = pathlib.Path(__file__).resolve().parents[1] / "docs" / "tutorials"
# Nothing that changes with the day, so that a new run changes what has changed.
_SVG = """
import matplotlib

%config InlineBackend.figure_formats = ["svg"]
%config InlineBackend.print_figure_kwargs = {"bbox_inches": "tight", "metadata": {"Date": None}}
%matplotlib inline
matplotlib.rcParams["svg.hashsalt"] = "keras_grapes"
"""


def run(path):
    """Runs a notebook from the top, in a folder that is thrown away, and writes it back."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(_SVG))
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=3600, record_timing=False, resources={"metadata": {"path": folder}}
        )
        client.execute()
    notebook.cells.pop(0)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        cell.execution_count = number
        cell.outputs = [kept(output, number) for output in joined(cell.outputs)]
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def joined(outputs):
    """The outputs, with what was printed in one piece."""
    printed = "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")
    others = [output for output in outputs if output.output_type != "stream"]
    if printed:
        others.insert(0, nbformat.v4.new_output("stream", name="stdout", text=printed))
    return others


def kept(output, number):
    """An output without what another one stands for, and without where it was in memory."""
    if "execution_count" in output:
        output.execution_count = number
    data = output.get("data", {})
    if "image/svg+xml" in data:
        output.data = {key: data[key] for key in ("image/svg+xml", "text/plain")}
    return output


if __name__ == "__main__":
    for notebook in [pathlib.Path(name) for name in sys.argv[1:]] or sorted(
        TUTORIALS.glob("*.ipynb")
    ):
        print(notebook)
        run(notebook)
