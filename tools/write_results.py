"""Puts what studies of the paper have found into the documentation.

    python tools/write_results.py DIR NAME ...

DIR is the folder that `python -m examples.paper NAME --preset reduced` has written. Records, figure
and tables of each study go to `docs/`; the text around them is written by hand.
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from examples.paper.__main__ import RECORDS
from examples.paper.records import Records
from examples.paper.report import Report
from examples.paper.studies import STUDIES

PRESET = "reduced"
ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "paper.md"
RESULTS = ROOT / "docs" / "results"


def load(name, path):
    """The `Report` of a study on what a file has recorded."""
    study = STUDIES[name]
    return Report(study, PRESET, study.scale(PRESET), Records(path).load())


def block(report):
    """The part of the page that a study's records give."""
    name = report.study.name
    versions = next(iter(report.records.values()))["versions"]
    return "\n\n".join(
        [
            f"`python -m examples.paper {name} --preset {PRESET} --jobs 2`, Keras "
            f"{versions['keras']}, TensorFlow {versions['tensorflow']}, two CPU cores: "
            f"{len(report.records)} runs. {report.caption}",
            report.tables,
            f"![{report.study.title}](images/{name}.png)",
            f"Records: [`results/{name}.jsonl`](results/{name}.jsonl).",
        ]
    )


def marks(name):
    return f"<!-- from results/{name}.jsonl -->", f"<!-- end of results/{name}.jsonl -->"


def block_in(page, name):
    """What stands in the text of a page between the marks of a study."""
    start, end = marks(name)
    return page.split(start)[1].split(end)[0].strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="+", choices=STUDIES, metavar="NAME")
    options = parser.parse_args()
    for name in options.names:
        report = load(name, options.folder / RECORDS)
        if len(report.records) < report.runs:
            parser.error(f"{name} has {len(report.records)} of {report.runs} runs")
        page = PAGE.read_text(encoding="utf-8")
        start, end = marks(name)
        if start not in page:
            parser.error(f"{PAGE} has no line {start!r}, with {end!r} below it")
        records = "".join(json.dumps(record) + "\n" for record in report.records.values())
        (RESULTS / f"{name}.jsonl").write_text(records, encoding="utf-8")
        report.save_figure(ROOT / "docs" / "images" / f"{name}.png")
        above, below = page.split(start)[0], page.split(end)[1]
        text = f"{above}{start}\n\n{block(report)}\n\n{end}{below}"
        PAGE.write_text(text, encoding="utf-8")
        print(f"{name}: {len(report.records)} runs")


if __name__ == "__main__":
    main()
