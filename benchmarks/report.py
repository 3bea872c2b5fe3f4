"""From numbers to a page: a table a tree and a bar chart, with the machine they come from."""

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.rounds import STEPS, Result
from benchmarks.trees import TREES

TITLES = {"first": "first backup", "again": "unchanged", "changed": "after a change", "restore": "restore"}
BASE = "cp -r"
OURS = "tensortime"


def machine(folder: Path) -> list[str]:
    """What the numbers depend on."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    system = subprocess.run(
        ["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True
    ).stdout.strip()
    return [
        f"{cpu}, {os.cpu_count()} cores, {memory / 1e9:.0f} GB of memory",
        f"file system {system}, Linux {platform.release()}, Python {platform.python_version()}",
    ]


def page(
    results: Mapping[str, Mapping[str, Result]],
    versions: Mapping[str, str],
    missing: Mapping[str, str],
    rounds: int,
    folder: Path,
) -> str:
    """The report in markdown."""
    lines = [
        "# What it costs",
        "",
        f"Measured on {date.today().isoformat()} with `make bench`, {rounds} rounds, the tools in turn within each round.",
        "Every step is a whole process followed by `sync -f` of what it wrote; the source is in the page cache. Seconds are",
        "medians, in brackets the fastest and slowest round; `x` is the ratio to `cp -r` in the same run.",
        "",
        *(f"* {line}" for line in machine(folder)),
        "* " + ", ".join(f"{name} {version}".strip() for name, version in versions.items()),
        *(f"* **missing**: {name}: {why}" for name, why in missing.items()),
        "",
        "![first backup and restore](benchmark.svg)",
    ]
    for name, found in results.items():
        lines += ["", f"## {name}: {TREES[name].about}", "", *table(found)]
    return "\n".join(lines) + "\n"


def table(found: Mapping[str, Result]) -> list[str]:
    """The rows of one tree."""
    head = ["", *(TITLES[step] for step in STEPS), "on disk", "after a change"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for tool, result in found.items():
        if result.problem:
            lines.append(f"| {tool} | {escape(result.problem)} |" + " |" * (len(head) - 2))
            continue
        cells = [cell(result, found.get(BASE), step) for step in STEPS]
        sizes = [f"{result.bytes[step] / 1e6:,.0f} MB" for step in ("first", "changed")]
        name = f"**{tool}**" if tool == OURS else tool
        lines.append("| " + " | ".join([name, *cells, *sizes]) + " |")
    return lines


def cell(result: Result, base: Result | None, step: str) -> str:
    """One number: median, spread, ratio."""
    median, seconds = result.median(step), result.seconds[step]
    if median is None:
        return ""
    text = f"{median:.2f} s ({min(seconds):.2f}-{max(seconds):.2f})"
    reference = base.median(step) if base is not None else None
    return f"{text}, {median / reference:.2f} x" if reference else text


WIDTH, LABEL, BAR, GAP = 760, 150, 15, 4
COLOURS = {"first": "#2f6f9f", "restore": "#8fb8d0"}


def chart(results: Mapping[str, Mapping[str, Result]]) -> str:
    """Bars of the first backup and of the restore, relative to `cp -r`; longer than four times is cut, and says so."""
    rows: list[str] = []
    y = 28
    longest = 4.0
    scale = (WIDTH - LABEL - 130) / longest
    for tree, found in results.items():
        base = found.get(BASE)
        rows.append(
            f'<text x="8" y="{y + 4}" class="tree">{escape(tree)}: {escape(TREES[tree].about)}</text>'
        )
        y += 14
        for tool, result in found.items():
            ratios = {
                step: median / reference
                for step in COLOURS
                if base and (median := result.median(step)) and (reference := base.median(step))
            }
            weight = ' font-weight="bold"' if tool == OURS else ""
            rows.append(
                f'<text x="{LABEL - 8}" y="{y + BAR}" text-anchor="end"{weight}>{escape(tool)}</text>'
            )
            for number, (step, colour) in enumerate(COLOURS.items()):
                top = y + number * (BAR // 2 + 2)
                if step not in ratios:
                    continue
                width = min(ratios[step], longest) * scale
                more = " (cut)" if ratios[step] > longest else ""
                rows.append(
                    f'<rect x="{LABEL}" y="{top}" width="{width:.1f}" height="{BAR // 2 + 1}" fill="{colour}"/>'
                )
                rows.append(
                    f'<text x="{LABEL + width + 5:.1f}" y="{top + 8}" class="number">{ratios[step]:.2f}{more}</text>'
                )
            y += BAR + GAP + 4
        y += 16
    line = f'<line x1="{LABEL + scale:.1f}" y1="24" x2="{LABEL + scale:.1f}" y2="{y - 12}" stroke="#b04030" stroke-dasharray="3 3"/>'
    legend = "".join(
        f'<rect x="{LABEL + number * 150}" y="{y - 8}" width="12" height="8" fill="{colour}"/>'
        f'<text x="{LABEL + 17 + number * 150}" y="{y}">{TITLES[step]}</text>'
        for number, (step, colour) in enumerate(COLOURS.items())
    )
    style = (
        "text{font:12px system-ui,sans-serif;fill:#222}.tree{font-weight:600}.number{font-size:9px;fill:#555}"
        "svg{background:#fff}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 14}" viewBox="0 0 {WIDTH} {y + 14}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{LABEL}" y="14">time relative to cp -r (the dashed line is 1), shorter is better</text>'
        + line
        + "".join(rows)
        + legend
        + "</svg>\n"
    )
