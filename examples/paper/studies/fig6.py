"""Fig. 6 and Supplementary Fig. 3: learning permuted MNIST, one task after the other."""

import dataclasses
import statistics

from examples.paper.outcomes import metrics_table
from examples.paper.settings import ARMS, design, of_scale, vary
from examples.paper.study import LOOK, MNIST, Claim, Study


def scenarios(scale):
    """Pairs of title and settings, one for each row of the figure."""
    momentum = of_scale(scale, hidden=(256, 256), dropout=0.1, optimizer="momentum")
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
            title = f"{pixels} pixels, SGD, rate {rate:g}, epochs a task: {scale.epochs}"
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
                ["average", "past", "forgetting", "future", "first"],
            ),
        )
        for title, settings in scenarios(scale)
    ]


def figure(outcomes, scale):
    from examples.paper import figures
    from keras_grapes.analysis import continual

    rows = scenarios(scale)
    picture, axes = figures.new(len(rows), 3)
    for (title, settings), panels in zip(rows, axes):
        for arm in scale.arms:
            for outcome in of_scenario(outcomes, settings, arm):
                look = figures.LOOKS[arm]
                matrices = [m for m in map(outcome.task_matrix, outcome.records) if m]
                if not matrices:
                    continue
                columns = list(zip(*seen_tasks(outcome)))
                figures.band(panels[0], range(1, len(columns) + 1), columns, arm, look)
                past = [100 * continual.past_accuracy(m)[1:] for m in matrices]
                future = [100 * continual.future_accuracy(m)[:-1] for m in matrices]
                figures.band(panels[1], range(2, scale.tasks + 1), list(zip(*past)), arm, look)
                figures.band(panels[2], range(1, scale.tasks), list(zip(*future)), arm, look)
        for panel, x, what in zip(
            panels,
            ("epoch", "task", "task"),
            ("tasks seen", "past tasks", "future tasks"),
        ):
            figures.finish(panel, x, f"accuracy on {what} (%)", title, whole=True)
    figures.legend(picture, axes)
    return picture


def seen_tasks(outcome):
    """Accuracy on the tasks seen so far, after each epoch, of each run that did not break off."""
    epochs = outcome.settings.epochs
    return [
        [
            100 * statistics.fmean(row[: epoch // epochs + 1])
            for epoch, row in enumerate(record["tasks"])
        ]
        for record in outcome.records
        if outcome.task_matrix(record)
    ]


STUDY = Study(
    name="fig6",
    title="Fig. 6 and Supplementary Fig. 3: permuted MNIST, one task after the other",
    paper={
        **MNIST,
        "validation_examples": 0,
        "permuted_pixels": (600, 300),
        "learning_rates": (0.001, 0.01),
        "tasks": 5,
        "arms": tuple(ARMS),
        "epochs": 10,
        "seeds": 5,
    },
    reduced={"seeds": 5},
    quick={**LOOK, "validation_examples": 0, "permuted_pixels": (600,), "tasks": 3},
    runs=runs,
    tables=tables,
    figure=figure,
    metric="average",
    claims=(
        Claim("Fig. 6a, c: a new task starts higher with GRAPES (first epoch)", "first"),
        Claim("Fig. 6a, c: GRAPES knows more on all tasks at the end", "average"),
        Claim("Fig. 6c: GRAPES remembers more of the past tasks", "past"),
        Claim("Fig. 6e, f: GRAPES is better on the tasks to come", "future"),
    ),
    note="All training images are trained on: nothing is chosen here. The larger learning rate, of "
    "Supplementary Fig. 3, is ours.",
)
