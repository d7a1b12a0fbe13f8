"""Scripts to run, `python examples/quickstart.py` first."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
