"""One study a file; this lists them in the order of `--list`."""

from examples.paper.studies import (
    configurations,
    controls,
    fig3,
    fig4,
    fig5,
    fig6,
    fig7,
    interval,
    local_vs_propagating,
    optimizers,
    scalability,
    table1,
)

_MODULES = (
    fig3,
    fig4,
    fig5,
    fig6,
    fig7,
    table1,
    local_vs_propagating,
    configurations,
    optimizers,
    interval,
    scalability,
    controls,
)
STUDIES = {module.STUDY.name: module.STUDY for module in _MODULES}
