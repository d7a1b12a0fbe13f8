"""The records of runs, by their settings."""

from examples.paper.settings import Settings
from keras_grapes.comparison.journal import Journal


class Records(Journal):
    """The runs that are recorded in a file; see `Journal` for how it outlives what stops a study.

    Args:
        path: Path of the file; it need not exist.
    """

    def load(self):
        """Returns a dict of `Settings` to record; settings unknown to this version are left out.

        Raises:
            ValueError: If a line other than a torn last one is not a record.
        """
        found = {}
        for number, record in self.read():
            try:
                settings = Settings.from_dict(record["settings"])
            except (ValueError, KeyError, TypeError) as error:
                raise self.error(number, error) from error
            if settings is not None:
                found.setdefault(settings, record)
        return found
