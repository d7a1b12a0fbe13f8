"""Finds variables again by their paths, whatever Keras has changed in them since.

A variable's path names the layers around it, as in `sequential/dense_1/kernel`. When a model is
loaded or built again the root's name may go, come, or have another number, and the layers of a
subclassed model are numbered anew. What stays is the end of the path and the shape.
"""

import collections
import re

from keras_grapes.groups import path_of

__all__ = []


class AmbiguousPathsError(Exception):
    """Raised where it cannot be told which of several variables is meant."""


def pair_by_path(stored, variables, numbered=True):
    """Pairs variables with stored weights of the same shape whose paths have the same end.

    The longest common ends go first. Where several have the same path, as many must be given as
    are stored, or as were trained among these; they are then paired by the numbers in their names,
    which rise in the order in which Keras makes layers, and after that by their order.

    Args:
        stored: List of the path, the shape and whether it was trained of each weight.
        variables: List of variables.
        numbered: Bool, whether the numbers at the ends of names must agree, that of a root
            excepted. Defaults to `True`.

    Returns:
        Dict of places in `stored` to variables.

    Raises:
        AmbiguousPathsError: If it cannot be told which is which.
    """
    there = [
        _Named(path, shape, numbered, place, trained)
        for place, (path, shape, trained) in enumerate(stored)
    ]
    here = [
        _Named(path_of(variable), variable.shape, numbered, place)
        for place, variable in enumerate(variables)
    ]
    found = {}
    for length in range(max((len(one.parts) for one in here), default=0), 0, -1):
        for first, second in _with_one_end(there, here, length):
            if len(first) != len(second):
                # A layer of the same name and shape may be frozen.
                first = [one for one in first if one.trained]
            if len(first) != len(second):
                raise AmbiguousPathsError(
                    f"it cannot be told which of several is meant by {second[0].path!r}"
                )
            for one, other in zip(sorted(first), sorted(second)):
                found[one.place] = variables[other.place]
                there.remove(one)
                here.remove(other)
    return found


class _Named:
    """A path and a shape, and which of them all it is."""

    def __init__(self, path, shape, numbered, place, trained=True):
        self.path = path
        self.shape = tuple(shape)
        self.place = place
        self.trained = trained
        parts = path.split(":")[0].split("/")
        # A wrapper has the name of the layer in it.
        parts = [part for i, part in enumerate(parts) if i == 0 or part != parts[i - 1]]
        self.numbers = [int(number) for part in parts for number in re.findall(r"_(\d+)$", part)]
        self.parts = parts if numbered else [_without_number(part) for part in parts]

    def __lt__(self, other):
        return (self.numbers, self.place) < (other.numbers, other.place)

    def end(self, length):
        # The name alone says nothing where there is more of a path.
        if len(self.parts) < length or (length == 1 and len(self.parts) > 1):
            return None
        return (*self.parts[-length:], self.shape)

    def agrees_with(self, other, length):
        """Whether what stands ahead of the common end is at most another root."""
        rest, others = self.parts[:-length], other.parts[:-length]
        if not rest or not others:
            return True
        return len(rest) == len(others) == 1 and _without_number(rest[0]) == _without_number(
            others[0]
        )


def _with_one_end(there, here, length):
    """Lists those of both that have the same end of that length."""
    ends = collections.defaultdict(lambda: ([], []))
    for side, named in enumerate((there, here)):
        for one in named:
            end = one.end(length)
            if end is not None:
                ends[end][side].append(one)
    pairs = []
    for first, second in ends.values():
        first = [one for one in first if any(one.agrees_with(o, length) for o in second)]
        second = [one for one in second if any(one.agrees_with(o, length) for o in first)]
        if first:
            pairs.append((first, second))
    return pairs


def _without_number(part):
    return re.sub(r"_\d+$", "", part)
