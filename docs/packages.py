"""Draw docs/images/packages.svg: `python docs/packages.py`. Imports only run downwards, from a box to boxes below."""

from __future__ import annotations

from pathlib import Path

#: Every row may import from the rows below it and from boxes further right in its own.
ROWS = (
    (("commands", "train, evaluate, generate, explore, prepare, export, report, benchmark, convert, dashboard"),),
    (
        ("evaluation", "protocols, tables, records"),
        ("benchmarks", "measured speed"),
        ("training", "fit, callbacks, loggers, devices"),
        ("inference", "generate, explore, export, load"),
    ),
    (("runs", "run folders, configuration, sweeps, weights"),),
    (("systems", "FExGAN, GANimation, StarGAN, LGP-GAN and others; one base class"),),
    (("metrics", "suites, groups, judges"), ("data", "data sets, packs, pairs, streams")),
    (("synthetic", "the drawn casts"), ("expression.py", "what face is wanted")),
    (
        ("figures", "tensors to pictures"),
        ("kernels", "faster modules"),
        ("utils", "errors, console, cache"),
    ),
)
WIDTH, HEIGHT, GAP, MARGIN = 960, 62, 16, 20
COLOURS = ("#303f9f", "#3949ab", "#3f51b5", "#5c6bc0", "#00796b", "#00897b", "#546e7a")


def box(x: float, y: float, width: float, name: str, note: str, colour: str) -> str:
    """A box with the name of a package and what is in it."""
    middle = x + width / 2
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{HEIGHT}" rx="8" fill="{colour}"/>'
        f'<text x="{middle:g}" y="{y + 26:g}" class="name">{name}</text>'
        f'<text x="{middle:g}" y="{y + 46:g}" class="note">{note}</text>'
    )


def drawing() -> str:
    """The whole picture."""
    parts = []
    for number, row in enumerate(ROWS):
        y = MARGIN + number * (HEIGHT + GAP)
        width = (WIDTH - GAP * (len(row) - 1)) / len(row)
        for column, (name, note) in enumerate(row):
            parts.append(box(MARGIN + column * (width + GAP), y, width, name, note, COLOURS[number]))
    bottom = 2 * MARGIN + len(ROWS) * (HEIGHT + GAP) - GAP
    arrow = WIDTH + 2 * MARGIN + 14
    parts.append(f'<path d="M{arrow} {MARGIN}V{bottom - MARGIN - 10}" stroke="#888" stroke-width="2"/>')
    parts.append(f'<path d="m{arrow - 6} {bottom - MARGIN - 12} 6 12 6-12z" fill="#888"/>')
    style = (
        "text{font-family:sans-serif;text-anchor:middle;fill:#fff}.name{font-size:17px;font-weight:bold}"
        ".note{font-size:12px}.side{fill:#888;font-size:13px}"
    )
    side = f'<text class="side" transform="translate({arrow + 20} {bottom / 2:g}) rotate(90)">imports</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 2 * MARGIN + 50} {bottom}" role="img">'
        f"<title>The packages; imports only run downwards</title><style>{style}</style>{''.join(parts)}{side}</svg>\n"
    )


if __name__ == "__main__":
    (Path(__file__).parent / "images" / "packages.svg").write_text(drawing(), encoding="utf-8")
