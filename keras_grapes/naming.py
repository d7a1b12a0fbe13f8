"""Names that tell things apart."""

import collections

__all__ = []


def distinct(names, paths):
    """Returns a name for each thing, no two alike.

    Args:
        names: List of strings, the short names.
        paths: List of strings, what takes the place of a name that several have. Where these are
            alike too, a number follows.
    """
    counts = collections.Counter(names)
    given = []
    for name, path in zip(names, paths, strict=True):
        name = name if counts[name] == 1 else path
        unique, number = name, 1
        while unique in given:
            number += 1
            unique = f"{name}_{number}"
        given.append(unique)
    return given
