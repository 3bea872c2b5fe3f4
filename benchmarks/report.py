"""From numbers to a page: the targets first, then the picture, then a table a tree, and the machine that they come from."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.measures import seconds
from benchmarks.numbers import BASE, OURS, STEPS, TITLES, Conditions, Numbers, Result, TreePart
from benchmarks.scenarios import SCENARIOS
from benchmarks.targets import Verdict, judge
from benchmarks.tools import TOOLS
from benchmarks.trees import TREES

BOUNDS = Path(__file__).with_name("bounds.toml")
"""What bounds a missed target, and what was tried: sentences, by the target's name."""

NOTE = """Every backup and restore is a whole process, followed by `sync -f` of what it wrote, and its source is in the page cache: of
*huge* all that fits. Within a round the tools run one after the other, in an order that turns. Seconds are medians, in
brackets the fastest and the slowest round; `x` is the ratio to `cp -r` in the same run. `n=2` marks a tool that had fewer
rounds than the others, as it takes long and no target compares it. Peak memory is that of the largest process; up to
about 30 MB it is the benchmark's own, as the kernel counts from the fork on. On disk: the store after each backup (of `cp -r`
and 0.1.0 three whole copies). A large file that was written less than a minute ago is read again by the next backup of
tensortime, whatever its times say: some of its unchanged backups of *code* include that."""


def page(numbers: Numbers) -> str:
    """The whole page in markdown."""
    lines = [
        "# What it costs",
        "",
        "Measured with `make bench`; `numbers.json` beside this page has all numbers.",
    ]
    lines += ["", *machines(numbers), "", "## Targets", "", *targets(judge(numbers), numbers)]
    if any(part.results for part in numbers.trees.values()):
        lines += [
            "",
            "## Beside what one would use instead",
            "",
            f"![{picture_in_words(numbers)}](benchmark.svg)",
        ]
        lines += ["", NOTE]
    for name, part in in_order(numbers.trees):
        lines += ["", f"### {name}: {TREES[name].about}{at_scale(part.conditions)}", "", *tree_lines(part)]
    lines += ["", "## When each was measured", "", *(f"* {line}" for line in dates(numbers))]
    return "\n".join(lines) + "\n"


def summary(numbers: Numbers) -> list[str]:
    """The rows of README's table: what each step takes here, and in brackets the base."""
    rows = []
    for name, _ in in_order(numbers.trees):
        ours, base = numbers.result(name, OURS), numbers.result(name, BASE)
        if ours and base and not TREES[name].place:
            pairs = ((ours.median(step), base.median(step)) for step in STEPS)
            cells = [f"{seconds(mine)} ({seconds(theirs)})" for mine, theirs in pairs if mine and theirs]
            rows.append(f"| *{name}* | " + " | ".join(cells) + " |")
    return rows


def all_conditions(numbers: Numbers) -> list[Conditions]:
    """Those of all parts."""
    trees = [part.conditions for part in numbers.trees.values()]
    return trees + [part.conditions for part in numbers.scenarios.values()]


def machines(numbers: Numbers) -> list[str]:
    """The machine and the versions; more than one where parts come from different ones."""
    found = all_conditions(numbers)
    lines = [
        f"* {', '.join(dict.fromkeys(getattr(one, field) for one in found))}"
        for field in ("machine", "system")
    ]
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for part in numbers.trees.values():
        versions |= part.versions
        missing |= part.missing
    lines.append(f"* tensortime {', '.join(dict.fromkeys(one.tensortime for one in found))}")
    others = [f"{name} {version}".strip() for name, version in versions.items() if name != OURS]
    lines += [f"* beside {', '.join(others)}"] if others else []
    return lines + [f"* **missing**: {name}: {one_line(why)}" for name, why in missing.items()]


def targets(verdicts: Iterable[Verdict], numbers: Numbers) -> list[str]:
    """The table of targets, what bounds those that were missed, and how many were met."""
    bounds: dict[str, str] = tomllib.loads(BOUNDS.read_text())
    rows, missed = ["| what | target | measured | |", "|---|---|---|---|"], []
    counts = dict.fromkeys(("met", "missed", "not measured"), 0)
    for one in verdicts:
        conditions = numbers.conditions(one.target.part)
        scale = at_scale(conditions) if conditions else ""
        word = "not measured" if one.met is None or scale else "met" if one.met else "missed"
        counts[word] += 1
        said = f"{one.measured.text}{scale}" if one.measured else one_line(one.why)
        shown = {
            "met": "met",
            "missed": "**missed**",
            "not measured": "too small to tell" if scale else "not measured",
        }
        rows.append(f"| {one.target.work} | {one.target.goal} | {said} | {shown[word]} |")
        if word == "missed":
            why = bounds.get(one.target.name, "what bounds it is not written down yet.")
            missed.append(f"* **{one.target.work}, {one.target.goal}**: {why.strip()}")
    total = ", ".join(f"{count} {word}" for word, count in counts.items()) + "."
    return [total, "", *rows, *(["", "What bounds those that were missed:", "", *missed] if missed else [])]


def tree_lines(part: TreePart) -> list[str]:
    """What is said of one tree."""
    if part.problem:
        return [f"Not measured: {one_line(part.problem)}"]
    where = f"{part.conditions.file_system}, {part.conditions.rounds} rounds, {part.conditions.date}."
    return [where, "", *table(part.results, part.conditions.rounds, part.missing)]


def table(results: Mapping[str, Result], rounds: int, missing: Mapping[str, str]) -> list[str]:
    """The rows of one tree."""
    head = ["", *(TITLES[step] for step in STEPS), "on disk: first", "again", "changed", "peak memory"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for tool, result in sorted(results.items(), key=lambda row: list(TOOLS).index(row[0])):
        cells = [name_of(tool, result, rounds)]
        if result.problem:
            cells += [f"**failed**: {one_line(result.problem)}"]
        else:
            cells += [cell(result, results.get(BASE), step) for step in STEPS]
            cells += [f"{result.bytes[step] / 1e6:,.0f} MB" for step in STEPS if step in result.bytes]
            cells += [f"{max(result.peak.values()) / 1e6:,.0f} MB"]
        lines.append(row(cells, len(head)))
    return lines + [row([tool, f"missing: {one_line(why)}"], len(head)) for tool, why in missing.items()]


def name_of(tool: str, result: Result, rounds: int) -> str:
    """The tool, and how many rounds it had where those are fewer."""
    had = len(result.seconds["restore"])
    name = f"**{tool}**" if tool == OURS else tool
    return name if result.problem or had == rounds else f"{name} (n={had})"


def row(cells: list[str], width: int) -> str:
    """One row of a table, filled up."""
    return "| " + " | ".join([*cells, *[""] * (width - len(cells))]) + " |"


def cell(result: Result, base: Result | None, step: str) -> str:
    """One number: median, spread, ratio."""
    median, times = result.median(step), result.seconds[step]
    if median is None:
        return ""
    text = f"{median:.2f} s ({min(times):.2f}-{max(times):.2f})"
    reference = base.median(step) if base is not None else None
    return f"{text}, {median / reference:.2f} x" if reference else text


def picture_in_words(numbers: Numbers) -> str:
    """For who cannot see it."""
    one, base = numbers.result("many", OURS), numbers.result("many", BASE)
    if one is None or base is None:
        return "seconds of each tool, by step"
    said = (
        f"{TITLES[step]} {seconds(mine)} ({BASE}: {seconds(theirs)})"
        for step in STEPS
        if (mine := one.median(step)) and (theirs := base.median(step))
    )
    return f"many, {OURS}: {'; '.join(said)}"


def dates(numbers: Numbers) -> list[str]:
    """Each part: when, where, how often, and the commit."""
    parts = [
        (name, TREES[name].about, part.conditions, part.problem) for name, part in in_order(numbers.trees)
    ]
    parts += [
        (name, SCENARIOS[name].about, numbers.scenarios[name].conditions, numbers.scenarios[name].problem)
        for name in SCENARIOS
        if name in numbers.scenarios
    ]
    return [
        f"{name} ({about}): {one.date}, {one.file_system}, {one.tensortime}{at_scale(one)}"
        + (f"; **not measured**: {one_line(problem)}" if problem else "")
        for name, about, one, problem in parts
    ]


def in_order(trees: Mapping[str, TreePart]) -> list[tuple[str, TreePart]]:
    """The trees that were measured, always in the same order."""
    return [(name, trees[name]) for name in TREES if name in trees]


def at_scale(one: Conditions) -> str:
    """A word on sizes that are not those of the targets."""
    return f" (at scale {one.scale:g})" if one.scale != 1 else ""


def one_line(text: str) -> str:
    """A reason that fits into a table."""
    return " ".join(text.split()).replace("|", "\\|")[:300]
