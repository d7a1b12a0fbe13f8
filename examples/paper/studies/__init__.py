"""One study a file; this lists them in the order of `--list`."""

from examples.paper.studies import (
    adam,
    configurations,
    controls,
    fig3,
    fig4a,
    fig4b,
    fig5,
    fig6,
    fig7,
    hardware,
    interval,
    local_vs_propagating,
    optimizers,
    other_networks,
    scalability,
    table1,
    weights,
)

_MODULES = (
    fig3,
    fig4a,
    fig4b,
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
    adam,
    other_networks,
)
STUDIES = {module.STUDY.name: module.STUDY for module in _MODULES}
