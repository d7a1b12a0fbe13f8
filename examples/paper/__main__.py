"""Reproduces a figure or table of the GRAPES paper.

    python -m examples.paper --list
    python -m examples.paper controls --preset reduced --output runs/paper

Every run is recorded when it is done: a study that was stopped goes on where it was.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from examples import command_line, data
from examples.paper import schedule
from examples.paper.report import Report, unique_runs
from examples.paper.settings import ARMS, PAPER_ARMS
from examples.paper.studies import STUDIES
from examples.paper.study import PRESETS

RECORDS = "runs.jsonl"


def parse(parser, arguments=None):
    parser.add_argument("name", nargs="?", choices=STUDIES, metavar="NAME", help="see --list")
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="quick",
        help="paper: the paper's settings; long: a part of them with all epochs; reduced: up to "
        "half an hour; default: quick, a look",
    )
    parser.add_argument(
        "--output",
        type=command_line.folder_path,
        metavar="DIR",
        help="folder of records, table and figure, default: runs/paper/PRESET",
    )
    parser.add_argument(
        "--seeds",
        type=command_line.positive_int,
        metavar="N",
        help="how many runs of each configuration, default: by preset",
    )
    parser.add_argument(
        "--jobs",
        type=command_line.positive_int,
        default=1,
        metavar="N",
        help="processes, default: 1",
    )
    parser.add_argument(
        "--arms",
        choices=("paper", "all"),
        help="paper: plain and GRAPES; all: the two controls as well; default: all",
    )
    parser.add_argument(
        "--dataset", choices=data.ALL_NAMES, help="in place of the study's own, where it has one"
    )
    parser.add_argument(
        "--plot-only", action="store_true", help="table and figure from what is recorded"
    )
    options = parser.parse_args(arguments)
    if options.list:
        return options
    if options.name is None:
        parser.error("give a NAME; --list says which there are")
    study = STUDIES[options.name]
    arms = options.arms and {"paper": PAPER_ARMS, "all": tuple(ARMS)}[options.arms]
    try:
        options.scale = study.scale(
            options.preset, seeds=options.seeds, arms=arms, dataset=options.dataset
        )
    except ValueError as error:
        parser.error(str(error))
    if options.output is None:
        options.output = pathlib.Path("runs/paper") / options.preset
    parser.require_modules()
    parser.make_folder(options.output)
    return options


def main(arguments=None, executor=None):
    """Does what the command line asks for.

    Args:
        arguments: List of strings. Defaults to `None`, those of the process.
        executor: See `schedule.run_all`. Defaults to `None`.
    """
    parser = command_line.Parser(
        prog="python -m examples.paper", description=__doc__.splitlines()[0]
    )
    options = parse(parser, arguments)
    if options.list:
        print("\n".join(f"{study.name:22}{study.title}" for study in STUDIES.values()))
        return
    try:
        perform(STUDIES[options.name], options, executor)
    except data.UnavailableError as error:
        parser.error(
            f"{error} Set TFDS_DATA_DIR to a folder that has it, or go on with another --dataset: "
            "digits needs no download."
        )
    except (BlockingIOError, ValueError, schedule.WorkerError) as error:
        parser.error(str(error))


def perform(study, options, executor=None):
    """Trains what is not recorded yet, then writes table and figure."""
    command_line.import_tensorflow()
    from examples.paper.records import Records

    records = Records(options.output / RECORDS)
    runs = unique_runs(study, options.scale)
    known = records.load()
    pending = [settings for settings in runs if settings not in known]
    print(f"{study.name}: {study.title}\n{study.caption(options.preset, options.scale)}")
    print(f"{len(runs)} runs, {len(runs) - len(pending)} recorded in {records.path}", flush=True)
    if pending and not options.plot_only:
        for name in sorted({settings.dataset for settings in pending}):
            data.check(name)
        if options.preset == "paper":
            seconds = schedule.estimate(pending)
            print(f"The others will take {schedule.duration(seconds)} on this machine.", flush=True)
        with records.writing():
            schedule.run_all(pending, records, options.jobs, executor)
    write(Report(study, options.preset, options.scale, records.load()), options.output)


def write(report, folder):
    """Writes the table and the figure of a study, and prints the table."""
    if not report.records:
        print("Nothing is recorded yet: no table, no figure.")
        return
    study = report.study
    print(f"\n{report.tables}\n")
    table, picture = (folder / f"{study.name}.{kind}" for kind in ("md", "png"))
    text = f"**{report.title}.** {report.caption}\n\n{report.tables}\n"
    table.write_text(text, encoding="utf-8")
    report.save_figure(picture)
    print(f"Table {table}, figure {picture}")


if __name__ == "__main__":
    command_line.run(main)
