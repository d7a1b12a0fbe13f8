"""One study a file; this lists them in the order of `--list`."""

from examples.paper.studies import (
    configurations,
    controls,
    fig3,
    fig4,
    fig5,
    fig6,
    fig7,
    hardware,
    interval,
    local_vs_propagating,
    optimizers,
    scalability,
    table1,
    weights,
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
    weights,
    hardware,
    controls,
)
STUDIES = {module.STUDY.name: module.STUDY for module in _MODULES}
