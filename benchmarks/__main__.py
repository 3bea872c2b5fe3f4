"""`python -m benchmarks`: install the tools, measure, write the report. `make bench`, `make bench-quick`.

What is measured is kept in `numbers.json` part by part (a tree, a scenario): a long benchmark can run in pieces, each
of which replaces its parts, and the page is written from all of them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.chart import chart
from benchmarks.disks import FRESH
from benchmarks.measures import seconds
from benchmarks.numbers import (
    BASE,
    OURS,
    STEPS,
    TITLES,
    Numbers,
    TreePart,
    conditions,
    read_numbers,
    write_numbers,
)
from benchmarks.report import page
from benchmarks.rounds import FAILURES, install, measure
from benchmarks.scenarios import SCENARIOS, measure_scenario
from benchmarks.targets import judge
from benchmarks.tools import TOOLS, Tool
from benchmarks.trees import TREES, Tree

TOP = Path(__file__).parent.parent
QUICK_SCENARIOS = ("import",)


def say(line: str) -> None:
    """Progress, on stderr, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)  # noqa: T201 - a program, not the library


def main() -> int:
    """Parse, measure, write."""
    options = parsed()
    path = options.out / "numbers.json"
    if options.quick:
        numbers = Numbers()
        measure_all(options, ["quick"], QUICK_SCENARIOS, numbers, None)
        print(quick_report(numbers))  # noqa: T201 - a program, not the library
        return 0
    every = options.trees is None and options.scenarios is None
    trees = [name for name in TREES if name != "quick"] if every else (options.trees or [])
    scenarios = list(SCENARIOS) if every else (options.scenarios or [])
    if not options.report and len(trees) + len(scenarios) > 1:
        return measure_apart(options, trees, scenarios)
    numbers = read_numbers(path)
    if not options.report:
        measure_all(options, trees, scenarios, numbers, path)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "README.md").write_text(page(numbers))
    (options.out / "benchmark.svg").write_text(chart(numbers))
    say(f"written: {options.out}")
    for one in judge(numbers):
        found = numbers.conditions(one.target.part)
        if one.met is False and one.measured and found and found.scale == 1:
            say(f"missed: {one.target.name}: {one.measured.text}")
    return 0


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="one small tree, 3 rounds, to the terminal alone"
    )
    parser.add_argument(
        "--trees", nargs="+", choices=TREES, help="these trees (and --scenarios) instead of all"
    )
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, help="these scenarios instead of all")
    parser.add_argument(
        "--report", action="store_true", help="write page and picture from numbers.json again"
    )
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--scale", type=float, default=1, help="of all sizes; less than 1 is no result")
    parser.add_argument(
        "--folder", type=Path, default=TOP / "build" / "bench", help="on the disk to be measured"
    )
    parser.add_argument("--out", type=Path, default=TOP / "docs" / "benchmarks")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    return options


def measure_apart(options: argparse.Namespace, trees: Sequence[str], scenarios: Sequence[str]) -> int:
    """Each part in a process of its own; the first exit code that is not 0.

    The kernel counts the memory of a program from that of the process that starts it: what one part left behind would be
    the peak of the next.
    """
    words = [
        sys.executable,
        "-m",
        "benchmarks",
        "--rounds",
        str(options.rounds),
        "--scale",
        str(options.scale),
    ]
    words += ["--folder", options.folder, "--out", options.out, "--tools", *options.tools]
    parts = [("--scenarios", name) for name in scenarios] + [("--trees", name) for name in trees]
    codes = [subprocess.run([*words, *part], check=False).returncode for part in parts]
    return next(filter(None, codes), 0)


def measure_all(
    options: argparse.Namespace,
    trees: Sequence[str],
    scenarios: Sequence[str],
    numbers: Numbers,
    path: Path | None,
) -> None:
    """Measure part by part; each is kept as soon as it is there. One that cannot be measured says why."""
    options.folder.mkdir(parents=True, exist_ok=True)
    tools = [TOOLS[name] for name in options.tools]
    versions: Mapping[str, str] = {}
    missing: Mapping[str, str] = {}
    if trees:
        versions, missing = install(tools, TOP / "build" / "bench-tools", say)
    for name in scenarios:
        problem = no_room(options.folder, SCENARIOS[name].room * options.scale)
        part = measure_scenario(name, options.rounds, options.folder, say, options.scale, problem)
        numbers.scenarios[name] = part
        if path:
            write_numbers(numbers, path)
    for name in trees:
        tree = TREES[name]
        present = [tool for tool in tools if tool.name in versions and tool.name in (tree.tools or versions)]
        wanted = {tool: why for tool, why in missing.items() if tool in (tree.tools or missing)}
        numbers.trees[name] = measure_tree(tree, present, options)
        numbers.trees[name].missing = wanted
        numbers.trees[name].versions = {tool.name: versions[tool.name] for tool in present}
        if path:
            write_numbers(numbers, path)


def measure_tree(tree: Tree, tools: list[Tool], options: argparse.Namespace) -> TreePart:
    """One tree, in a folder that is removed again."""
    folder = tree.place or options.folder
    part = TreePart(conditions(folder, options.rounds, options.scale))
    if tree.fresh and os.geteuid() == 0:
        part.conditions = replace(part.conditions, file_system=FRESH)
    part.problem = no_room(folder, tree.room * options.scale)
    if part.problem:
        say(f"{tree.name}: not measured: {part.problem}")
        return part
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as scratch:
        try:
            part.results = measure(tree, tools, options.rounds, Path(scratch), say, options.scale)
        except FAILURES as problem:
            part.problem = str(problem)
            say(f"{tree.name}: not measured: {problem}")
    return part


def no_room(folder: Path, wanted: float) -> str:
    """Why something so large cannot be measured there; empty where it can."""
    free = shutil.disk_usage(folder).free
    if free >= wanted:
        return ""
    return f"{wanted / 1e9:.0f} GB of disk are needed, {free / 1e9:.0f} GB are free"


def quick_report(numbers: Numbers) -> str:
    """For the terminal: seconds of each tool, and the targets that were measured."""
    part = numbers.trees["quick"]
    lines = [
        f"{TREES['quick'].about}; {part.conditions.file_system}; medians of {part.conditions.rounds} rounds, "
        f"slow tools fewer (n=…); x: by {BASE}"
    ]
    lines += [f"{'':28}" + "".join(f"{TITLES[step]:>17}" for step in STEPS)]
    base = part.results.get(BASE)
    for tool, result in part.results.items():
        had = len(result.seconds["restore"])
        name = tool + (f" (n={had})" if had != part.conditions.rounds else "")
        cells = [
            f"{seconds(median)} {median / reference if (reference := base and base.median(step)) else 0:5.2f} x"
            for step in STEPS
            if (median := result.median(step))
        ]
        marked = f"* {name}" if tool == OURS else f"  {name}"
        lines.append(
            f"{marked:28}"
            + ("".join(f"{one:>17}" for one in cells))
            + (f"  {result.problem}" if result.problem else "")
        )
    lines += [f"  {tool}: missing: {why}" for tool, why in part.missing.items()]
    lines += [
        f"{one.target.work}: {one.measured.text}: {'met' if one.met else 'MISSED'} ({one.target.goal})"
        for one in judge(numbers)
        if one.measured
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
