"""Checks of arguments: what came is told in the message, with the name of the argument."""

import math
import numbers

import keras

__all__ = []


def is_int(value):
    """Whether it is an int, of Python or NumPy, and no bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value):
    """Whether it is a real number, and no bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_positive_int(name, value, or_none=False):
    """Returns an int of at least 1; `None` too if `or_none`.

    Raises:
        ValueError: If it is something else.
    """
    if value is None and or_none:
        return None
    if not is_int(value) or value < 1:
        allowed = "a positive int or None" if or_none else "a positive int"
        raise ValueError(f"`{name}` must be {allowed}. Received: {name}={value!r}")
    return int(value)


def check_int(name, value, at_least):
    """Returns an int not below a bound.

    Raises:
        ValueError: If it is something else.
    """
    if not is_int(value) or value < at_least:
        raise ValueError(
            f"`{name}` must be an int of at least {at_least}. Received: {name}={value!r}"
        )
    return int(value)


def check_seed(name, value, error=ValueError):
    """Returns an int or `None`.

    Raises:
        ValueError: If it is something else, or `error` in its place.
    """
    if value is not None and not is_int(value):
        raise error(f"`{name}` must be an int or None. Received: {name}={value!r}")
    return None if value is None else int(value)


def check_number(name, value, above=-math.inf, at_least=-math.inf, meaning=""):
    """Returns a finite number above one bound and not below the other, as a float.

    Raises:
        ValueError: If it is something else.
    """
    if not (is_number(value) and math.isfinite(value) and above < value and at_least <= value):
        bound = f" above {above}" if above > -math.inf else ""
        bound += f" of at least {at_least}" if at_least > -math.inf else ""
        raise ValueError(
            f"`{name}` must be a finite number{meaning}{bound}. Received: {name}={value!r}"
        )
    return float(value)


def check_share(name, value, meaning="", ends=True):
    """Returns a number from 0 to 1 as a float, without these ends if not `ends`.

    Raises:
        ValueError: If it is something else.
    """
    fits = is_number(value) and (0 <= value <= 1 if ends else 0 < value < 1)
    if not fits:
        allowed = "a number from 0 to 1" if ends else "between 0 and 1"
        raise ValueError(f"`{name}` must be {allowed}{meaning}. Received: {name}={value!r}")
    return float(value)


def check_choice(name, value, choices):
    """Returns one of some strings.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")
    return value


def check_model(name, value, hint=""):
    """Returns a `keras.Model`.

    Raises:
        TypeError: If it is something else.
    """
    if not isinstance(value, keras.Model):
        raise TypeError(
            f"`{name}` must be a `keras.Model`. Received: {name}={value!r} of type "
            f"{type(value).__name__}{hint}"
        )
    return value
