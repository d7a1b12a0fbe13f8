"""Reads the equation of an `EinsumDense` layer."""

import typing

__all__ = []


class Equation(typing.NamedTuple):
    """The letters of the axes of the inputs, of the kernel and of the output."""

    inputs: str
    kernel: str
    output: str

    @classmethod
    def of(cls, layer):
        operands, output = layer.equation.replace(" ", "").split("->")
        return cls(*operands.split(","), output)

    @property
    def incoming_axes(self):
        """Axes of the kernel that are summed over."""
        return tuple(i for i, letter in enumerate(self.kernel) if letter not in self.output)
