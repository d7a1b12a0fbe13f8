"""Hook of the site: the version that it describes stands in its name."""

import pathlib
import re

_VERSION = pathlib.Path(__file__).parents[2] / "keras_grapes" / "version.py"


def on_config(config):
    """Called by MkDocs with its settings."""
    version = re.search(r'__version__ = "(.+)"', _VERSION.read_text(encoding="utf-8"))[1]
    config.site_name += f" {version}"
    return config
