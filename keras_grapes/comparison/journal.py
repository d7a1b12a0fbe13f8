"""A file of JSON lines that outlives whatever stops the process that writes it."""

import contextlib
import json
import os
import pathlib

__all__ = []

try:
    import fcntl
except ImportError:  # Windows: there two writers of one file are the user's to avoid.
    fcntl = None  # type: ignore[assignment]


class BusyError(BlockingIOError):
    """Another process writes to the same file."""


class Journal:
    """Entries in a file, each a line, written by one call and flushed to the disk.

    What a killed process has left of a last line is no entry: it is passed over, and cut off before
    the next is written.

    Args:
        path: Path of the file; it need not exist.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self._file = None

    def read(self):
        """Yields pairs of the number of a line and its value.

        Raises:
            ValueError: If a line other than a torn last one is not JSON.
        """
        content = self.path.read_bytes() if self.path.exists() else b""
        *lines, _torn = content.split(b"\n")
        for number, line in enumerate(lines, start=1):
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise self.error(number, error) from error

    def error(self, number, reason):
        """The error to raise of a line that is no entry."""
        return ValueError(
            f"line {number} of {self.path} is not a record ({reason}). Repair or remove it."
        )

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
                        f"another process is writing to {self.path}. Wait for it, or choose "
                        "another file."
                    ) from error
            file.seek(0)
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
            self._file = file
            try:
                yield self
            finally:
                self._file = None

    def append(self, entry):
        """Writes one entry so that it is on the disk when this returns."""
        self._file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
        os.fsync(self._file.fileno())
