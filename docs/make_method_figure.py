"""Draws `docs/method.svg`: how trajectory transfer watches, tries and learns.

python -m docs.make_method_figure
"""

from __future__ import annotations

from pathlib import Path

INK, SOFT, BLUE, GREEN, ORANGE = "#1f2933", "#9aa5b1", "#0072b2", "#009e73", "#d55e00"
parts: list[str] = []


def text(x: float, y: float, words: str, *, size: int = 13, bold: bool = False, colour: str = INK) -> None:
    """Write a line, centred at x."""
    weight = ' font-weight="bold"' if bold else ""
    style = f'font-size="{size}" fill="{colour}" text-anchor="middle"{weight}'
    parts.append(f'<text x="{x}" y="{y}" {style}>{words}</text>')


def box(x: float, y: float, width: float, height: float, title: str, colour: str) -> None:
    """Draw a box with its title above what is in it."""
    parts.append(
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="white" stroke="{colour}" '
        'stroke-width="1.8"/>'
    )
    text(x + width / 2, y + 21, title, size=14, bold=True, colour=colour)


def arrow(points: str, words: str = "", at: tuple[float, float] = (0, 0)) -> None:
    """Draw a line through points, with a head at its end."""
    parts.append(f'<path d="{points}" fill="none" stroke="{INK}" stroke-width="1.6" marker-end="url(#head)"/>')
    if words:
        text(*at, words, size=12)


def path(points: str, colour: str, dashed: bool = False) -> None:
    """Draw a curve."""
    dash = ' stroke-dasharray="4 4"' if dashed else ""
    parts.append(f'<path d="{points}" fill="none" stroke="{colour}" stroke-width="2.4"{dash}/>')


def dot(x: float, y: float, colour: str, radius: float = 5, filled: bool = True) -> None:
    """Draw a point."""
    fill = colour if filled else "white"
    parts.append(f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{fill}" stroke="{colour}" stroke-width="1.8"/>')


def draw() -> str:
    """Return the picture."""
    box(16, 20, 196, 140, "demonstration", BLUE)
    path("M 44 128 C 60 60, 120 60, 132 104 S 176 120, 184 72", BLUE)
    dot(132, 104, BLUE)
    dot(184, 72, BLUE, filled=False)
    text(114, 150, "one, of another goal", size=12)

    box(16, 214, 196, 140, "trials, with rewards", ORANGE)
    path("M 44 322 C 60 262, 116 262, 128 304 S 150 308, 156 284", ORANGE)
    for x, y, radius in ((60, 288, 2), (90, 274, 3), (122, 286, 4), (142, 303, 6), (156, 284, 9)):
        dot(x, y, ORANGE, radius)
    text(114, 344, "none at attempt 0", size=12)

    box(268, 106, 212, 162, "scorer (learned)", GREEN)
    for i, height in enumerate((8, 14, 10, 62, 30, 12, 22, 6)):
        colour = GREEN if i == 3 else SOFT
        parts.append(f'<rect x="{294 + 20 * i}" y="{214 - height}" width="14" height="{height}" fill="{colour}"/>')
    text(374, 234, "probability of each goal offset:", size=12)
    text(374, 252, "does it explain the rewards?", size=12)

    box(536, 106, 196, 162, "warped reference", BLUE)
    path("M 562 222 C 578 160, 628 160, 640 202 S 676 212, 684 170", SOFT, dashed=True)
    path("M 562 222 C 578 160, 634 160, 652 208 S 704 206, 712 186", BLUE)
    dot(640, 202, SOFT, filled=False)
    dot(652, 208, BLUE)
    dot(712, 186, BLUE, filled=False)
    text(634, 254, "goes along with the objects", size=12)

    box(788, 106, 176, 162, "one attempt", INK)
    lines = ("closed-loop tracking,", "500 steps; where the end", "is reached in vain,", "the next likely offset")
    for i, line in enumerate(lines):
        text(876, 156 + 20 * i, line, size=12)

    arrow("M 212 90 C 240 90, 240 160, 262 160")
    arrow("M 212 284 C 240 284, 240 214, 262 214")
    arrow("M 480 187 L 530 187", "offsets", (505, 178))
    arrow("M 732 187 L 782 187")
    above = "reference trajectory: the way of hand and objects, and the actions"
    arrow("M 212 56 L 634 56 L 634 100", above, (430, 48))
    below = "learn: the episode and its rewards are one more trial in the context"
    arrow("M 876 268 L 876 326 L 218 326", below, (560, 318))
    text(114, 14, "watch", size=13, bold=True)
    text(876, 98, "try", size=13, bold=True)
    body = "\n".join(parts)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 370" font-family="Helvetica, Arial, sans-serif" '
        'role="img" aria-label="Demonstration and trials go into a scorer of goal offsets; the demonstrated trajectory '
        'is warped by the likeliest ones and tracked; the episode becomes one more trial.">\n'
        '<defs><marker id="head" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M 0 0 L 10 5 L 0 10 z" fill="{INK}"/></marker></defs>\n'
        f'<rect width="980" height="370" fill="white"/>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    (Path(__file__).parent / "method.svg").write_text(draw())
