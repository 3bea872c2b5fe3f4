"""The picture: how long each tool takes, in four small panels a tree. SVG, on a background of its own."""

from collections.abc import Iterator
from xml.sax.saxutils import escape

from benchmarks.numbers import BASE, OURS, STEPS, TITLES, Numbers, TreePart
from benchmarks.tools import TOOLS
from benchmarks.trees import TREES

SHOWN = ("code", "many")
"""The trees of the picture, where they were measured: what most projects are like."""

WIDTH, MARGIN, NAMES, BAR, PITCH = 1000, 20, 130, 13, 21
PANEL = (WIDTH - NAMES - 2 * MARGIN) / len(STEPS)
ROOM = PANEL - 72
"""Width of the longest bar; the rest of a panel is its number."""
MOST = 3.0
"""Times `cp -r`: what takes longer is cut, and looks so."""

STYLE = (
    "text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1f2328;"
    "paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}"
    ".title{font-size:17px;font-weight:700}.tree{font-size:14px;font-weight:700}"
    ".step{font-weight:600;fill:#57606a}.ours{font-weight:700}.small{font-size:11.5px;fill:#57606a}"
    ".bar{fill:#c3cad2}.bar.ours{fill:#0b5cad}.base{stroke:#57606a;stroke-dasharray:2 3}.cut{stroke:#fff;stroke-width:3}"
)


def chart(numbers: Numbers) -> str:
    """The picture of the trees that most projects are like; of the first that was measured where those were not."""
    measured = [name for name, part in numbers.trees.items() if part.results]
    shown = [name for name in SHOWN if name in measured] or measured[:1]
    lines: list[str] = []
    top = 62
    for name in shown:
        part = numbers.trees[name]
        lines += one_tree(name, part, top)
        top += 48 + PITCH * len(tools_of(part)) + 14
    head = [
        f'<text x="{MARGIN}" y="28" class="title">Seconds for one project: shorter is better</text>',
        f'<text x="{MARGIN}" y="47" class="small">Medians of whole processes, all bytes on the disk. Dotted line: '
        f"{BASE}. A bar with a gap is longer than drawn. Each panel has its own scale.</text>",
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}">',
            f"<style>{STYLE}</style>",
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{top - 1}" rx="8" fill="#fff" stroke="#d0d7de"/>',
            *head,
            *lines,
            "</svg>\n",
        ]
    )


def tools_of(part: TreePart) -> list[str]:
    """The tools of a tree, always in the same order, the missing ones too."""
    return [tool for tool in TOOLS if tool in part.results or tool in part.missing]


def one_tree(name: str, part: TreePart, top: float) -> Iterator[str]:
    """A row of panels, one a step, beside the tools' names."""
    about = TREES[name].about + (
        f", at scale {part.conditions.scale:g}" if part.conditions.scale != 1 else ""
    )
    yield f'<text x="{MARGIN}" y="{top + 14}" class="tree">{escape(name)}: {escape(about)}</text>'
    bars = top + 46
    for number, tool in enumerate(tools_of(part)):
        kind = ' class="ours"' if tool == OURS else ""
        middle = bars + number * PITCH + BAR - 2
        yield f'<text x="{MARGIN + NAMES - 10}" y="{middle}" text-anchor="end"{kind}>{escape(tool)}</text>'
    for number, step in enumerate(STEPS):
        left = MARGIN + NAMES + number * PANEL
        yield f'<text x="{left:.1f}" y="{top + 36}" class="step">{TITLES[step]}</text>'
        yield from panel(part, step, left, bars)


def panel(part: TreePart, step: str, left: float, top: float) -> Iterator[str]:
    """The bars of one step."""
    medians = {tool: median_of(part, tool, step) for tool in tools_of(part)}
    times = [value for value in medians.values() if value]
    if not times:
        return
    base, ours = medians.get(BASE), medians.get(OURS)
    longest = min(max(times), MOST * base) if base else max(times)
    longest = max(longest, ours or 0)  # ours is never cut
    if base:
        x = left + min(base, longest) / longest * ROOM
        yield f'<line x1="{x:.1f}" y1="{top - 4}" x2="{x:.1f}" y2="{top + PITCH * len(medians) - 4}" class="base"/>'
    for number, (tool, value) in enumerate(medians.items()):
        kind = " ours" if tool == OURS else ""
        y = top + number * PITCH
        if value is None:
            why = "missing" if tool in part.missing else "failed"
            yield f'<text x="{left:.1f}" y="{y + BAR - 2}" class="small">{why}</text>'
            continue
        width = max(1.5, min(value, longest) / longest * ROOM)
        yield f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" class="bar{kind}"/>'
        if value > longest:
            x = left + width - 14
            yield f'<line x1="{x:.1f}" y1="{y + BAR + 2}" x2="{x + 6:.1f}" y2="{y - 2}" class="cut"/>'
        shown = f' class="{kind.strip()}"' if kind else ""
        yield f'<text x="{left + width + 5:.1f}" y="{y + BAR - 2}"{shown}>{label(value)}</text>'


def median_of(part: TreePart, tool: str, step: str) -> float | None:
    """None where it is missing or failed."""
    result = part.results.get(tool)
    return result.median(step) if result and not result.problem else None


def label(value: float) -> str:
    """Seconds, all in one unit."""
    places = 2 if value < 1 else 1 if value < 10 else 0
    return f"{value:,.{places}f} s"
