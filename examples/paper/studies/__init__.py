"""One study a file; this lists them in the order of `--list`."""

from examples.paper.studies import controls

STUDIES = {study.name: study for study in (controls.STUDY,)}
