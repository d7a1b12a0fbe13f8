"""What a study has found, as text and as a picture, from records alone."""

from examples.paper.outcomes import METRICS, SMALL, Outcomes, pair_table


class Report:
    """Caption, tables and figure of a study.

    Args:
        study: `Study`.
        preset: String.
        scale: What `study.scale` has chosen.
        records: Dict of `Settings` to record, as `Records.load` gives it; others are passed over.
    """

    def __init__(self, study, preset, scale, records):
        self.study = study
        self.scale = scale
        runs = unique_runs(study, scale)
        self._missing = [settings for settings in runs if settings not in records]
        self.runs = len(runs)
        self.records = {settings: records[settings] for settings in runs if settings in records}
        self.outcomes = Outcomes(runs, records)
        dataset = getattr(scale, "dataset", None)
        other = dataset is not None and dataset != study.paper["dataset"]
        self.title = f"{study.title} (here: {dataset})" if other else study.title
        self.caption = study.caption(preset, scale)
        if len(self.records) < self.runs:
            self.caption += f" Incomplete: {len(self.records)} of {self.runs} runs."
        if study.metric is not None:
            self.caption += f" Numbers: {METRICS[study.metric]}; mean ± standard deviation (runs)."

    def has_all_of(self, *arms):
        """Whether every run of these arms is recorded."""
        return not any(settings.arm in arms for settings in self._missing)

    @property
    def tables(self):
        """The tables as Markdown, each below its heading."""
        tables = [*self.study.tables(self.outcomes, self.scale), *self._pair_tables()]
        # Of a study that is not through, some have no rows yet.
        return "\n\n".join(
            f"**{heading}**\n\n{table}" for heading, table in tables if table.count("\n") > 1
        )

    def _pair_tables(self):
        """Paired differences by the metrics of the claims."""
        for metric in dict.fromkeys(claim.metric for claim in self.study.claims):
            table = pair_table(self.outcomes, metric)
            if table:
                # The sign is that of the gain, whatever the metric.
                sign = ", + is less" if metric in SMALL else ""
                yield f"Paired differences, {metric}{sign}: mean [95 % interval] (pairs)", table

    def save_figure(self, path, caption=True):
        """Draws the study; a page that has title and caption as text needs neither in the figure.

        Args:
            path: Path of the image.
            caption: Bool, whether the image has both. Defaults to `True`.
        """
        from examples.paper import figures

        picture = self.study.figure(self.outcomes, self.scale)
        figures.save(picture, path, *((self.title, self.caption) if caption else ()))


def unique_runs(study, scale):
    """The runs of a study, each once: its panels share some."""
    return list(dict.fromkeys(study.runs(scale)))
