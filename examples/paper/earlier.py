"""Tables of records whose settings no study asks for any more, from the records alone."""

import dataclasses

from examples.paper.outcomes import METRICS, Outcomes, labels, pair_table, pivot, setting
from examples.paper.settings import ARMS
from examples.paper.studies import STUDIES

# What the tables of a study show, besides what most do.
_METRICS = {
    "fig4": ("final", "slowness"),
    "fig6": ("average", "past", "forgetting", "future"),
    "local_vs_propagating": ("final", "slowness"),
}
# Settings of every run that a reader has to know, where they do not vary.
_TOLD = (
    "dataset",
    "train_examples",
    "test_examples",
    "hidden",
    "dropout",
    "rule",
    "optimizer",
    "learning_rate",
    "batch_size",
    "epochs",
    "tasks",
)


class Earlier:
    """Caption and tables of records, which say themselves what was trained.

    Args:
        name: String, the name of the study that has trained them.
        records: Dict of `Settings` to record, as `Records.load` gives it.
    """

    def __init__(self, name, records):
        self._name = name
        self._records = records
        self._outcomes = Outcomes(list(records), records)

    @property
    def caption(self):
        settings = list(self._records)
        versions = next(iter(self._records.values()))["versions"]
        told = [
            setting(settings[0], name)
            for name in _TOLD
            if len({getattr(s, name) for s in settings}) == 1
            and (getattr(settings[0], name) or name == "dropout")
        ]
        seeds = sorted({s.seed for s in settings})
        return (
            f"{len(settings)} runs with Keras {versions['keras']} and TensorFlow "
            f"{versions['tensorflow']}: {', '.join(told)}, {len(seeds)} seed(s), no validation "
            "images; test accuracies."
        )

    @property
    def tables(self):
        study = STUDIES.get(self._name)
        if study is not None and study.metric is None:
            found = study.tables(self._outcomes, study.scale("reduced"))
        else:
            found = []
            for metric in _METRICS.get(self._name, ("final",)):
                found.append((f"{metric}: {METRICS[metric]}", self._table(metric)))
                pairs = pair_table(self._outcomes, metric)
                if pairs:
                    found.append((f"paired differences, {metric}", pairs))
        return "\n\n".join(f"**{heading}**\n\n{table}" for heading, table in found)

    def save_figure(self, path):
        """Draws what the study draws, of these records."""
        from examples.paper import figures

        study = STUDIES[self._name]
        picture = study.figure(self._outcomes, study.scale("reduced"))
        figures.save(picture, path, study.title, self.caption)

    def _table(self, metric):
        label = labels(self._outcomes)
        versions = {o.settings.version for o in self._outcomes if ARMS[o.settings.arm] is not None}
        shown = []
        for outcome in self._outcomes:
            # Plain training has no versions: it stands beside each.
            of = versions if ARMS[outcome.settings.arm] is None else {outcome.settings.version}
            for version in sorted(of):
                settings = dataclasses.replace(outcome.settings, version=version)
                shown.append(dataclasses.replace(outcome, settings=settings))
        return pivot(shown, "", label, lambda s: s.label, metric)
