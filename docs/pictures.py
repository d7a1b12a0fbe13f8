"""Draws the pictures of `how_it_works.md`, each for light and for dark pages.

python docs/pictures.py
"""

import itertools
import pathlib

import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

IMAGES = pathlib.Path(__file__).parent / "images"
# Text, lines and fills of both kinds of page.
THEMES = {
    "light": {"ink": "#202124", "faint": "#8a8f98", "strong": "#7b1fa2", "error": "#c62828"},
    "dark": {"ink": "#e4e6eb", "faint": "#8a93a6", "strong": "#ce93d8", "error": "#ff8a80"},
}
WEIGHTS = np.array([[0.9, -0.2, 0.4], [-0.6, 0.1, 0.5], [0.5, 0.3, -0.5]])


def factor_of(weights):
    importance = np.abs(weights).sum(0)
    return importance, np.clip(2 * importance / importance.max(), 1, 2)


def draw_factor(theme):
    """From weights by importance to the factor."""
    importance, factor = factor_of(WEIGHTS)
    figure, axes = plt.subplots(1, 3, figsize=(8, 2.7), layout="constrained")
    nodes = np.arange(3)
    axes[0].set_title("weights $W_{pn}$")
    # Near zero the tint vanishes into the page.
    axes[0].imshow(np.abs(WEIGHTS), cmap=_tint(theme), vmin=0, vmax=1.2)
    for p, row in enumerate(WEIGHTS):
        for n, weight in enumerate(row):
            axes[0].text(n, p, f"{weight:.1f}", ha="center", va="center", color=theme["ink"])
    axes[0].set(xticks=nodes, xticklabels=nodes + 1, yticks=nodes, yticklabels=nodes + 1)
    axes[0].set(xlabel="node $n$", ylabel="input $p$")
    bars = [("importance $i_n$", importance, 2.4), ("factor $m_n$", factor, 2.4)]
    for ax, (title, values, top) in zip(axes[1:], bars):
        drawn = ax.bar(nodes, values, 0.6, color=theme["strong"], alpha=0.6)
        ax.bar_label(drawn, fmt="%.1f", color=theme["ink"])
        ax.set(title=title, xlabel="node $n$", ylim=(0, top))
        ax.set(xticks=nodes, xticklabels=nodes + 1)
        ax.spines[["top", "right"]].set_visible(False)
    axes[1].axhline(importance.max() / 2, ls="--", color=theme["faint"])
    label = {"color": theme["faint"], "ha": "center", "va": "bottom", "fontsize": 9}
    axes[1].text(1, importance.max() / 2 + 0.05, "half of the\nlargest", **label)
    for bound in (1, 2):
        axes[2].axhline(bound, ls="--", color=theme["faint"])
    return figure


def draw_versions(theme):
    """Where the factor acts."""
    figure, axes = plt.subplots(2, 1, figsize=(8, 4.6), layout="constrained")
    titles = ("local: each update is multiplied", "propagating: the error is multiplied")
    for ax, title in zip(axes, titles):
        local = ax is axes[0]
        ax.set(title=title, xlim=(-0.2, 9.9), ylim=(-1.45, 1.75))
        ax.axis("off")
        for place, name in enumerate(("hidden 1", "hidden 2", "output")):
            left = 0.6 + 3.3 * place
            box = FancyBboxPatch((left, -0.5), 1.6, 1, "round,pad=0.05", fc="none", ec=theme["ink"])
            ax.add_patch(box)
            ax.text(left + 0.8, 0, name, ha="center", va="center", color=theme["ink"])
            _arrow(ax, (left - (1.55 if place else 0.75), 0.28), (left - 0.1, 0.28), theme["faint"])
            if place:
                _arrow(ax, (left - 0.1, -0.28), (left - 1.55, -0.28), theme["error"])
            hidden = place < 2
            update = rf"$\Delta W^{place + 1}$"
            if hidden and local:
                update = rf"$m^{place + 1} \odot$ {update}"
            ax.text(left + 0.8, 1.15, update, ha="center", color=theme["ink"])
            ax.plot([left + 0.8] * 2, [0.6, 1.0], color=theme["ink"], lw=1)
            if hidden and not local:
                ax.text(
                    left + 2.42,
                    -1.2,
                    rf"$\times\, m^{place + 1}$",
                    ha="center",
                    color=theme["strong"],
                    fontsize=13,
                    weight="bold",
                )
                ax.plot([left + 2.42] * 2, [-0.85, -0.36], color=theme["strong"], lw=1.5)
            elif hidden:
                ax.text(left + 2.42, -0.8, "error", ha="center", color=theme["error"], fontsize=9)
        ax.text(-0.15, 0.55, "input", color=theme["faint"], fontsize=9)
        _arrow(ax, (9.8, -0.28), (8.95, -0.28), theme["error"])
        ax.text(9.4, -0.8, "loss", ha="center", color=theme["error"], fontsize=9)
    return figure


def draw_gain(theme):
    """The error gain of every hidden layer of a deep network with fresh uniform weights."""
    random = np.random.default_rng(0)
    depth, draws = 10, 20
    sizes = [784] + [256] * depth

    def means():
        layers = itertools.pairwise(sizes)
        return [factor_of(random.uniform(-1, 1, shape))[1].mean() for shape in layers]

    gains = np.mean([np.cumprod(means()[::-1])[::-1] for _ in range(draws)], axis=0)
    figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
    layers = np.arange(1, depth + 1)
    ax.semilogy(layers, gains, "o-", color=theme["strong"])
    for layer in (1, 4, 7, 10):
        ax.annotate(
            f"{gains[layer - 1]:.3g}",
            (layer, gains[layer - 1]),
            (8, 4),
            textcoords="offset points",
            color=theme["ink"],
        )
    ax.set(xlabel="hidden layer, counted from the input", ylabel="error gain", xticks=layers)
    ax.set(xlim=(0.5, 11), ylim=(1, 1000))
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def _arrow(ax, start, end, color):
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, color=color))


def _tint(theme):
    strong = matplotlib.colors.to_rgb(theme["strong"])
    colors = [(*strong, 0.0), (*strong, 0.7)]
    return matplotlib.colors.LinearSegmentedColormap.from_list("tint", colors)


def save(name, draw):
    for kind, theme in THEMES.items():
        ink = theme["ink"]
        keys = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
        style = dict.fromkeys(keys, ink)
        style |= {"savefig.transparent": True, "svg.hashsalt": name, "font.size": 11}
        with plt.rc_context({**style, "axes.titlecolor": ink}):
            figure = draw(theme)
            figure.savefig(IMAGES / f"{name}-{kind}.svg", metadata={"Date": None})
            plt.close(figure)


if __name__ == "__main__":
    save("factor", draw_factor)
    save("versions", draw_versions)
    save("gain", draw_gain)
