"""Fig. 6 and Supplementary Fig. 3: learning permuted MNIST, one task after the other."""

import dataclasses
import statistics

from examples.paper.outcomes import metrics_table
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import LOOK, MNIST, Study


def scenarios(scale):
    """Pairs of title and settings, one for each row of the figure."""
    momentum = of_scale(scale, hidden=(256, 256), optimizer="momentum")
    found = [
        ("a, b: all pixels, momentum, 1 epoch a task", dataclasses.replace(momentum, epochs=1))
    ]
    for pixels in scale.permuted_pixels:
        for rate in scale.learning_rates:
            settings = of_scale(
                scale,
                hidden=(256,) * 3,
                dropout=0.1,
                learning_rate=rate,
                permuted_pixels=pixels,
            )
            title = f"{pixels} pixels, SGD, rate {rate:g}, {scale.epochs} epoch(s) a task"
            found.append((title, settings))
    return [(title, dataclasses.replace(settings, tasks=scale.tasks)) for title, settings in found]


def runs(scale):
    settings = [s for _, base in scenarios(scale) for s in vary(base, seed=range(scale.seeds))]
    return design(settings, scale.arms)


def of_scenario(outcomes, settings, arm):
    return [o for o in outcomes if o.settings == design([settings], [arm])[0]]


def tables(outcomes, scale):
    return [
        (
            title,
            metrics_table(
                [(arm, o) for arm in scale.arms for o in of_scenario(outcomes, settings, arm)],
                "arm",
                ["average", "past", "forgetting", "future"],
            ),
        )
        for title, settings in scenarios(scale)
    ]


def figure(outcomes, scale):
    from examples.paper import figures

    rows = scenarios(scale)
    picture, axes = figures.new(len(rows), 2)
    for (title, settings), (past, future) in zip(rows, axes):
        for arm in scale.arms:
            for outcome in of_scenario(outcomes, settings, arm):
                matrices = [m for m in map(outcome.task_matrix, outcome.records) if m]
                look = figures.LOOKS[arm]
                for panel, first, part in (
                    (past, 1, lambda row, task: row[:task]),
                    (future, 0, lambda row, task: row[task + 1 :]),
                ):
                    tasks = range(first, first + scale.tasks - 1)
                    columns = [
                        [100 * statistics.fmean(part(m[task], task)) for m in matrices]
                        for task in tasks
                    ]
                    if matrices:
                        figures.band(panel, [t + 1 for t in tasks], columns, arm, look)
        figures.finish(past, "task", "accuracy on past tasks (%)", title, whole=True)
        figures.finish(future, "task", "accuracy on future tasks (%)", title, whole=True)
    figures.legend(picture, axes)
    return picture


STUDY = Study(
    name="fig6",
    title="Fig. 6 and Supplementary Fig. 3: permuted MNIST, one task after the other",
    paper={
        **MNIST,
        "permuted_pixels": (600, 300),
        "learning_rates": (0.001, 0.01),
        "tasks": 5,
        "arms": tuple(ARMS),
        "epochs": 10,
        "seeds": 5,
    },
    reduced={"seeds": 2},
    quick={**LOOK, "permuted_pixels": (600,), "tasks": 3},
    runs=runs,
    tables=tables,
    figure=figure,
    metric="average",
    note="The larger learning rate, of Supplementary Fig. 3, is ours.",
)
