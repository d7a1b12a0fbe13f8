"""The records of runs: a file of JSON lines that outlives whatever stops a study."""

import contextlib
import json
import os

from examples.paper.settings import Settings

try:
    import fcntl
except ImportError:  # Windows: there two studies in one folder are the user's to avoid.
    fcntl = None


class BusyError(Exception):
    """Another process writes to the same records."""


class Records:
    """The runs that are recorded in a file.

    A record is one line, written by one call and flushed to the disk. What a killed process has
    left of a last line is no record: it is passed over, and cut off before the next is written.

    Args:
        path: `pathlib.Path` of the file; it need not exist.
    """

    def __init__(self, path):
        self.path = path
        self._file = None

    def load(self):
        """Returns a dict of `Settings` to record.

        Raises:
            ValueError: If a line other than a torn last one is not a record.
        """
        found = {}
        content = self.path.read_bytes() if self.path.exists() else b""
        *lines, _torn = content.split(b"\n")
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                settings = Settings.from_dict(record["settings"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"line {number} of {self.path} is not a record ({error}). Repair or remove it."
                ) from error
            if settings is not None:
                found.setdefault(settings, record)
        return found

    @contextlib.contextmanager
    def writing(self):
        """Opens the file to append to; within, `append` works, for one process at a time.

        Raises:
            BusyError: If another process has it open so.
        """
        with open(self.path, "a+b", buffering=0) as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise BusyError(
                        f"another study is writing to {self.path}. Wait for it, give it more "
                        "processes with --jobs, or choose another --output."
                    ) from error
            file.seek(0)
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
            self._file = file
            try:
                yield self
            finally:
                self._file = None

    def append(self, record):
        """Writes one record so that it is on the disk when this returns."""
        self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        os.fsync(self._file.fileno())
