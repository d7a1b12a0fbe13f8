"""The experiments of the GRAPES paper, one command each: `python -m examples.paper --list`."""
