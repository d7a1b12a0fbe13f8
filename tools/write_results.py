"""Puts what studies of the paper have found into the documentation.

    python tools/write_results.py DIR NAME ... --preset long
    python tools/write_results.py --refresh

DIR is the folder that `python -m examples.paper NAME --preset long` has written. Records, figure
and tables of each study go to `docs/`, with `--partial` also of a study that is not through, which
its caption says. `--refresh` writes all tables anew from the records in `docs/results/`. The text
around them is written by hand.
"""

import argparse
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
PAGES = (PAGE, DOCS / "controls.md", DOCS / "earlier_results.md")
CLAIMS = "<!-- claims -->", "<!-- end of claims -->"
# New studies stand ahead of it.
AFTER = "\n## Data\n"
SYMBOLS = {"holds": "✓", "does not hold": "✗", "not decided": "?", "not measured": "·"}
_BLOCK = re.compile(
    r"<!-- from (results/\S+\.jsonl)(?:, preset (\w+))? -->\n(.*?)<!-- end of \1 -->", re.DOTALL
)


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
    study = STUDIES[path.stem]
    report = Report(study, preset, study.scale(preset), records)
    versions = next(iter(report.records.values()))["versions"]
    return "\n\n".join(
        [
            f"`python -m examples.paper {study.name} --preset {preset}`, Keras "
            f"{versions['keras']}, TensorFlow {versions['tensorflow']}: {len(report.records)} "
            f"runs. {report.caption}",
            report.tables,
            f"![{study.title}](images/{study.name}.png)",
            f"Records: [`{file}`]({file}).",
        ]
    )


def claims(page):
    """The table of all claims, and how many of them hold, by what the blocks of a page have."""
    presets = {pathlib.Path(file).stem: preset for file, preset, _ in blocks(page) if preset}
    rows, counts, beyond = [], dict.fromkeys(SYMBOLS, 0), 0
    for study in STUDIES.values():
        outcomes, whole = (), True
        if study.name in presets:
            records = Records(RESULTS / f"{study.name}.jsonl").load()
            scale = study.scale(presets[study.name])
            report = Report(study, presets[study.name], scale, records)
            outcomes, whole = report.outcomes, len(report.records) == report.runs
        for claim in study.claims:
            found = claim.differences(outcomes) if outcomes else []
            others = claim.against_mean_only(outcomes) if found else []
            said = _said(found, whole) if found else "not measured"
            counts[said] += 1
            mean_only = _said(others, whole) if others else ""
            beyond += said == mean_only == "holds"
            rows.append(
                f"| {claim.text} | {SYMBOLS[said]} {said} | {mean_only} | {_evidence(found)} | "
                f"{claim.metric} | `{study.name}` |"
            )
    total = sum(counts.values())
    count = (
        f"Of {total} claims, **{counts['holds']} hold**, {counts['does not hold']} do not hold, "
        f"{counts['not decided']} are not decided, and {counts['not measured']} are not measured "
        f"with these settings yet. {beyond} of those that hold do so against the raised mean alone "
        "as well."
    )
    columns = ("claim", "verdict", "against mean only", "better by", "measure", "study")
    header = f"| {' | '.join(columns)} |"
    return "\n".join([count, "", header, "| --- " * len(columns) + "|", *rows])


def _said(differences, whole):
    """The verdict; what holds in a part of a study may fail in the rest."""
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
    for path in PAGES:
        page = path.read_text(encoding="utf-8")

        def block(match):
            file, preset, _ = match.groups()
            return _marked(file, preset or None, render(file, preset or None))

        page = _BLOCK.sub(block, page)
        if path == PAGE:
            start, end = CLAIMS
            above, rest = page.split(start)
            page = f"{above}{start}\n\n{claims(page)}\n\n{end}{rest.split(end)[1]}"
        path.write_text(page, encoding="utf-8")
    controls = RESULTS / "earlier" / "controls.jsonl"
    Earlier("controls", Records(controls).load()).save_figure(DOCS / "images" / "controls.png")


def _marked(file, preset, text):
    of = f", preset {preset}" if preset else ""
    return f"<!-- from {file}{of} -->\n\n{text}\n\n<!-- end of {file} -->"


def write(name, folder, preset, partial, error):
    """Takes the records of a study over and makes its figure; its block where it has none yet."""
    study = STUDIES[name]
    report = Report(study, preset, study.scale(preset), Records(folder / RECORDS).load())
    if not report.records or (len(report.records) < report.runs and not partial):
        error(f"{name} has {len(report.records)} of {report.runs} runs")
    file = f"results/{name}.jsonl"
    records = "".join(json.dumps(record) + "\n" for record in report.records.values())
    (DOCS / file).write_text(records, encoding="utf-8")
    report.save_figure(DOCS / "images" / f"{name}.png")
    page = PAGE.read_text(encoding="utf-8")
    block = _marked(file, preset, "")
    known = [match.group(0) for match in _BLOCK.finditer(page) if match.group(1) == file]
    if known:
        page = page.replace(known[0], block)
    else:
        page = page.replace(AFTER, f"\n### {study.title}\n\n{block}\n{AFTER}", 1)
    PAGE.write_text(page, encoding="utf-8")
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
