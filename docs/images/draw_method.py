"""Draws docs/images/method.png: `python docs/images/draw_method.py`."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

INK, GREY = "#1f2933", "#7b8794"
BLUE, ORANGE, GREEN, RED = "#2f6fab", "#c8701b", "#2f855a", "#c53030"


def draw(path: Path) -> None:
    figure = Figure(figsize=(12.5, 5.6), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 125)
    axes.set_ylim(0, 56)
    axes.axis("off")

    def box(x, y, width, height, text, colour=INK, fill="white", size=9.5, **style):
        axes.add_patch(
            FancyBboxPatch(
                (x, y), width, height, boxstyle="round,pad=0.25", edgecolor=colour, facecolor=fill, linewidth=1.3
            )
        )
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size, color=colour, **style)

    def arrow(start, end, colour=GREY, dashed=False):
        axes.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>",
                mutation_scale=11,
                linewidth=1.4,
                color=colour,
                linestyle="--" if dashed else "-",
            )
        )

    def heading(x, text):
        axes.text(x, 53, text, ha="center", va="center", fontsize=11, color=INK, weight="bold")

    heading(10, "one question")
    heading(38, "m prompts that mean the same")
    heading(69, "n responses to each, rewarded")
    heading(103, "every response trains under every prompt")

    box(2, 20, 16, 14, "image\n+ question\n+ answer", fill="#f5f7fa", size=10.5)

    box(25, 32, 26, 12, "$q_1$   another wording\n“Count the dots in\nthe picture.”", BLUE, "#eaf2fb")
    box(
        25,
        9,
        26,
        12,
        "$q_2$   image turned by 180°,\n“The image was turned …”\n“How many dots are there?”",
        ORANGE,
        "#fdf1e5",
    )
    arrow((18.6, 29), (24.4, 38))
    arrow((18.6, 25), (24.4, 15))

    rewards = {1: (1, 0, 1), 2: (0, 0, 1)}
    for prompt, base, colour in ((1, 32, BLUE), (2, 9, ORANGE)):
        for index, reward in enumerate(rewards[prompt]):
            y = base + 9 - index * 4.5
            box(60, y, 10, 3, f"$o_{{{prompt},{index + 1}}}$", colour, size=10)
            axes.text(74, y + 1.5, f"r = {reward}", va="center", fontsize=9.5, color=GREEN if reward else RED)
            arrow((51.6, base + 6), (59.4, y + 1.5), colour)

    # The pairs as a table: rows are responses, columns the prompts they are trained under.
    for column, (name, colour) in enumerate((("under $q_1$", BLUE), ("under $q_2$", ORANGE))):
        axes.text(95 + column * 17, 47.5, name, ha="center", va="center", fontsize=10, color=colour)
    for prompt, base, colour in ((1, 32, BLUE), (2, 9, ORANGE)):
        for index in range(3):
            y = base + 9 - index * 4.5
            for column in (1, 2):
                own = column == prompt
                box(
                    88 + (column - 1) * 17,
                    y,
                    14,
                    3,
                    "global + local" if own else "global",
                    colour if own else GREY,
                    "#eefaf2" if own else "white",
                    size=9,
                )
    arrow((79.5, 39), (86.5, 39))
    arrow((79.5, 16), (86.5, 16))
    axes.text(
        62.5,
        2.6,
        "global: the reward against all m·n responses to the question        "
        "local: against the n responses to the same prompt, for the response's own prompt only",
        ha="center",
        va="center",
        fontsize=9.5,
        color=INK,
    )
    figure.savefig(path)


if __name__ == "__main__":
    draw(Path(__file__).with_name("method.png"))
