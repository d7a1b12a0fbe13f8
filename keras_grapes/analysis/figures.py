"""What the plots share. Matplotlib is imported when something is drawn, not before."""

__all__ = []

# Line styles and markers, so that lines are told apart in grey too.
STYLES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))


def new_axes(rows=1, columns=1, size=(5, 4), **kwargs):
    """Returns the axes of a new figure, an array of shape `(rows, columns)`.

    Args:
        rows: Int. Defaults to 1.
        columns: Int. Defaults to 1.
        size: Tuple of the width and height of one of the axes, in inches. Defaults to `(5, 4)`.
        **kwargs: As `matplotlib.figure.Figure.subplots` takes them.

    Raises:
        ModuleNotFoundError: If Matplotlib is not installed.
    """
    try:
        from keras_grapes.analysis.picture import Picture
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Figures are drawn by Matplotlib, and there is no module "
            f"'{error.name}'. Install it: pip install 'keras_grapes[examples]', or pip install "
            "matplotlib.",
            name=error.name,
        ) from error

    figure = Picture(figsize=(columns * size[0], rows * size[1]), layout="constrained")
    return figure.subplots(rows, columns, squeeze=False, **kwargs)


def style(number):
    """Keyword arguments of a line, by its number among the lines of the axes."""
    line, marker = STYLES[number % len(STYLES)]
    return {"color": f"C{number}", "linestyle": line, "marker": marker, "markersize": 4}


def whole_numbers(axis):
    """Lets an axis have ticks at whole numbers alone."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def sequence_style(number, count):
    """Keyword arguments of the line of a layer, from dark to light in the order of the layers."""
    from matplotlib import colormaps

    color = colormaps["viridis"](0.85 * number / max(count - 1, 1))
    return {"color": color, "linestyle": STYLES[number % len(STYLES)][0]}
