"""What the pictures of the examples share."""


def new_figure(size):
    """Returns a figure to save: without pyplot, so that no window is asked for.

    Args:
        size: Tuple of width and height in inches.
    """
    # Here, as an example that only prints its help needs no matplotlib.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
