"""Figure that leaves the user's figures alone. It imports Matplotlib."""

import io

from matplotlib.figure import Figure

__all__ = []


class Picture(Figure):
    """Figure that pyplot does not know of, and that notebooks show nevertheless.

    What draws into a figure of its own changes neither which one is current nor how many are open.
    """

    def _repr_png_(self):
        png = io.BytesIO()
        self.savefig(png, format="png", bbox_inches="tight")
        return png.getvalue()
