"""Puts what studies of the paper have found into the documentation.

    python tools/write_results.py DIR NAME ... --preset long
    python tools/write_results.py --refresh

DIR is the folder that `python -m examples.paper NAME --preset long` has written. Each study gets a
page, `docs/paper/NAME.md`, with its verdicts, figure and tables, and its records go to
`docs/results/`; with `--partial` also a study that is not through, which its caption says.
`--refresh` writes all tables anew from the records in `docs/results/`. The text around them is
written by hand.
"""

import argparse
import dataclasses
import html
import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from examples.paper.__main__ import RECORDS
from examples.paper.earlier import Earlier
from examples.paper.outcomes import verdict
from examples.paper.records import Records
from examples.paper.report import Report
from examples.paper.studies import STUDIES
from examples.paper.study import PRESETS

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
RESULTS = DOCS / "results"
PAGE = DOCS / "paper.md"
STUDY_PAGES = DOCS / "paper"
CLAIMS = "<!-- claims -->", "<!-- end of claims -->"
SYMBOLS = {"holds": "✓", "does not hold": "✗", "not decided": "?", "not measured": "·"}
_INTRODUCTION = (
    "[The paper's claims](../paper.md#how-a-claim-is-decided) says how a verdict is reached, and\n"
    "[Is it GRAPES, or a larger learning rate?](../controls.md) what the four arms are."
)
_BLOCK = re.compile(
    r"<!-- from (results/\S+\.jsonl)(?:, preset (\w+))? -->\n(.*?)<!-- end of \1 -->", re.DOTALL
)


def pages():
    """Lists the pages that have blocks: that of each study, and those of earlier records."""
    earlier = [DOCS / "controls.md", DOCS / "earlier_results.md"]
    return [*sorted(STUDY_PAGES.glob("*.md")), *earlier]


def blocks(page):
    """Lists the file, the preset (`None` of earlier records) and the text of each block."""
    return [(file, preset or None, text.strip()) for file, preset, text in _BLOCK.findall(page)]


def render(file, preset):
    """The text of a block, from its records alone."""
    path = DOCS / file
    records = Records(path).load()
    if preset is None:
        found = Earlier(path.stem, records)
        return "\n\n".join([found.caption, found.tables, f"Records: [`{file}`]({file})."])
    report = report_of(path.stem, preset, records)
    study = report.study
    versions = next(iter(report.records.values()))["versions"]
    title = html.escape(study.title)
    # Blank lines and `markdown` let the caption have code and links.
    figure = (
        "<figure markdown>\n\n"
        f"![{title}](../images/{study.name}.png)\n\n"
        f"<figcaption>{html.escape(report.caption)}</figcaption>\n\n</figure>"
    )
    return "\n\n".join(
        [
            *([_table(_rows(report), CLAIM_COLUMNS)] if study.claims else []),
            f"`python -m examples.paper {study.name} --preset {preset}`, Keras "
            f"{versions['keras']}, TensorFlow {versions['tensorflow']}: {len(report.records)} "
            f"of {report.runs} runs. Records: [`{file}`](../{file}).",
            figure,
            report.tables,
        ]
    )


def report_of(name, preset, records):
    study = STUDIES[name]
    return Report(study, preset, study.scale(preset), records)


def claims():
    """The table of all claims, and how many of them hold, by what the pages of studies have."""
    rows, counts, beyond = [], dict.fromkeys(SYMBOLS, 0), 0
    presets = {
        pathlib.Path(file).stem: preset
        for path in pages()
        for file, preset, _ in blocks(path.read_text(encoding="utf-8"))
        if preset
    }
    for study in STUDIES.values():
        report, shown = None, f"`{study.name}`"
        if study.name in presets:
            records = Records(RESULTS / f"{study.name}.jsonl").load()
            report = report_of(study.name, presets[study.name], records)
            shown = f"[{shown}](paper/{study.name}.md)"
        for claim in study.claims:
            row = _row(claim, report)
            counts[row.verdict] += 1
            beyond += row.verdict == row.mean_only == "holds"
            rows.append([*row.cells, shown])
    total = sum(counts.values())
    holding = counts["holds"]
    also = f" Of the {holding} that hold, {beyond} also hold against the raised mean alone."
    count = (
        f"Of {total} claims, **{holding} hold**, {counts['does not hold']} do not hold, "
        f"{counts['not decided']} are not decided, and {counts['not measured']} are not measured "
        f"with these settings yet.{also if holding else ''}"
    )
    return f"{count}\n\n{_table(rows, (*CLAIM_COLUMNS, 'study'))}"


CLAIM_COLUMNS = ("claim", "verdict", "against mean only", "better by", "measure")


@dataclasses.dataclass(frozen=True)
class Row:
    """What is said of a claim."""

    claim: object
    verdict: str
    mean_only: str
    evidence: str

    @property
    def cells(self):
        said = f"{SYMBOLS[self.verdict]} {self.verdict}"
        return [self.claim.text, said, self.mean_only, self.evidence, self.claim.metric]


def _rows(report):
    return [_row(claim, report).cells for claim in report.study.claims]


def _row(claim, report):
    """The row of a claim; `report` is `None` where nothing is recorded."""
    found = claim.differences(report.outcomes) if report else []
    if not found:
        return Row(claim, "not measured", "", "")
    others = claim.against_mean_only(report.outcomes)
    mean_only = _said(others, report.has_all_of("GRAPES", "mean only")) if others else ""
    said = _said(found, report.has_all_of("plain", "GRAPES"))
    return Row(claim, said, mean_only, _evidence(found))


def _table(rows, columns):
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _said(differences, whole):
    """The verdict; what holds in a part of the runs that count may fail in the rest."""
    said = verdict(differences)
    return "not decided" if said == "holds" and not whole else said


def _evidence(differences):
    if len(differences) <= 1:
        return "".join(map(str, differences))
    means = [d.mean for d in differences]
    low, high = min(d.low for d in differences), max(d.high for d in differences)
    pairs = sorted({d.n for d in differences})
    interval = f", intervals within [{low:+.2f}, {high:+.2f}]" if min(pairs) > 1 else ""
    return (
        f"{len(differences)} differences from {min(means):+.2f} to {max(means):+.2f}{interval} "
        f"({' or '.join(map(str, pairs))})"
    )


def refresh():
    """Writes all blocks and the table of claims anew."""

    def block(match):
        file, preset, _ = match.groups()
        return _marked(file, preset or None, render(file, preset or None))

    for path in pages():
        path.write_text(_BLOCK.sub(block, path.read_text(encoding="utf-8")), encoding="utf-8")
    start, end = CLAIMS
    above, rest = PAGE.read_text(encoding="utf-8").split(start)
    PAGE.write_text(f"{above}{start}\n\n{claims()}\n\n{end}{rest.split(end)[1]}", encoding="utf-8")
    controls = RESULTS / "earlier" / "controls.jsonl"
    Earlier("controls", Records(controls).load()).save_figure(DOCS / "images" / "controls.png")


def _marked(file, preset, text):
    of = f", preset {preset}" if preset else ""
    return f"<!-- from {file}{of} -->\n\n{text}\n\n<!-- end of {file} -->"


def write(name, folder, preset, partial, error):
    """Takes the records of a study over and makes its figure; its page where it has none yet."""
    report = report_of(name, preset, Records(folder / RECORDS).load())
    if not report.records or (len(report.records) < report.runs and not partial):
        error(f"{name} has {len(report.records)} of {report.runs} runs")
    file = f"results/{name}.jsonl"
    records = "".join(json.dumps(record) + "\n" for record in report.records.values())
    (DOCS / file).write_text(records, encoding="utf-8")
    report.save_figure(DOCS / "images" / f"{name}.png", caption=False)
    path, block = STUDY_PAGES / f"{name}.md", _marked(file, preset, "")
    if path.exists():
        # The text below the block stays; the preset may be another.
        path.write_text(_BLOCK.sub(block, path.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        STUDY_PAGES.mkdir(exist_ok=True)
        text = f"# {report.study.title}\n\n{_INTRODUCTION}\n\n{block}\n"
        path.write_text(text, encoding="utf-8")
    print(f"{name}: {len(report.records)} of {report.runs} runs")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    parser.add_argument("names", nargs="*", choices=[*STUDIES, []], metavar="NAME")
    parser.add_argument("--preset", choices=PRESETS, default="reduced")
    parser.add_argument("--partial", action="store_true", help="also what is not through")
    parser.add_argument("--refresh", action="store_true", help="tables anew from docs/results")
    options = parser.parse_args()
    if not options.refresh and not options.names:
        parser.error("give DIR and NAME, or --refresh")
    for name in options.names:
        write(name, options.folder, options.preset, options.partial, parser.error)
    refresh()


if __name__ == "__main__":
    main()
