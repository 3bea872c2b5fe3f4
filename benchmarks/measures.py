"""The numbers that the targets speak of, computed from what was measured. Pure."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from benchmarks.numbers import BASE, OURS, Numbers

MB = 1_000_000
RIVALS = ("git", "dvc", "restic", "borg")
"""Those that rebuild the files when they restore."""

Number = Callable[[Numbers], "Measured | None"]


class Measured(NamedTuple):
    """A number, and what it comes from."""

    value: float
    text: str


def seconds(value: float) -> str:
    """Seconds as a person reads them."""
    if value < 0.1:
        return f"{value * 1000:.1f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:,.1f} s"


def against(ours: float, base: float, what: str) -> Measured:
    """A ratio of two times."""
    return Measured(ours / base, f"{ours / base:.2f} x ({seconds(ours)}, {what} {seconds(base)})")


def ratio(tree: str, step: str, base: str, base_step: str = "") -> Number:
    """Our median of a step by that of another tool in the same run."""

    def number(numbers: Numbers) -> Measured | None:
        ours, theirs = numbers.result(tree, OURS), numbers.result(tree, base)
        if ours is None or theirs is None:
            return None
        mine, reference = ours.median(step), theirs.median(base_step or step)
        name = "`git add -A`" if base_step == "add" else f"`{base}`" if base == BASE else base
        return against(mine, reference, name) if mine and reference else None

    return number


def fastest_rival(tree: str) -> Number:
    """Our restore by the fastest of those who have to rebuild the files."""

    def number(numbers: Numbers) -> Measured | None:
        ours = numbers.result(tree, OURS)
        medians = {
            tool: found
            for tool in RIVALS
            if (result := numbers.result(tree, tool)) and (found := result.median("restore"))
        }
        mine = ours.median("restore") if ours else None
        if not medians or not mine:
            return None
        best = min(medians, key=lambda tool: medians[tool])
        measured = against(mine, medians[best], f"the fastest, {best},")
        absent = [tool for tool in RIVALS if tool not in medians]
        return (
            measured._replace(text=measured.text + f"; without {', '.join(absent)}") if absent else measured
        )

    return number


def scenario(name: str, number: Callable[[Mapping[str, Any]], Measured]) -> Number:
    """A number out of what a scenario found."""

    def found(numbers: Numbers) -> Measured | None:
        data = numbers.found(name)
        return number(data) if data else None

    return found


def peak(tree: str, steps: Sequence[str]) -> Number:
    """The most memory that we held in these steps, in MB."""

    def number(numbers: Numbers) -> Measured | None:
        ours = numbers.result(tree, OURS)
        held = [ours.peak[step] for step in steps if step in ours.peak] if ours else []
        return megabytes(max(held)) if held else None

    return number


def megabytes(size: float) -> Measured:
    """Bytes in MB."""
    return Measured(size / MB, f"{size / MB:,.0f} MB")


def million_memory(found: Mapping[str, Any]) -> Measured:
    """What a process that backs up a million unchanged files holds, or what it starts if that is more."""
    large = found["large"]
    held = max(large["peak"], large["peak_children"])
    return Measured(
        held / MB,
        f"{large['peak'] / MB:,.0f} MB (its gits {large['peak_children'] / MB:,.0f} MB; "
        f"the first backup {large['first_peak'] / MB:,.0f} MB)",
    )


def walk_ratio(found: Mapping[str, Any]) -> Measured:
    """An unchanged backup by a bare walk."""
    return against(median(found["backup"]), median(found["walk"]), "the walk")


def linear(found: Mapping[str, Any]) -> Measured:
    """The time of a file among a million by that of a file among 50,000."""
    each = {name: median(found[name]["backup"]) / found[name]["files"] for name in ("small", "large")}
    walks = {name: median(found[name]["walk"]) / found[name]["files"] for name in ("small", "large")}
    return Measured(
        each["large"] / each["small"],
        f"{each['large'] / each['small']:.2f} x ({each['large'] * 1e6:.1f} µs a file, {each['small'] * 1e6:.1f} of "
        f"{found['small']['files']:,}; a bare walk: {walks['large'] / walks['small']:.2f} x)",
    )


def one_changed(found: Mapping[str, Any], way: str) -> Measured:
    """What a backup of one changed large file costs more than one of nothing new, by a copy of the file."""
    changed, copy, unchanged = (median(found[name]) for name in (way, "copy", "unchanged"))
    return Measured(
        (changed - unchanged) / copy,
        f"{(changed - unchanged) / copy:.2f} x ({seconds(changed)} - unchanged {seconds(unchanged)}, `cp` {seconds(copy)})",
    )


def extra_bytes(found: Mapping[str, Any]) -> Measured:
    """What a backup took on the disk, in parts of the file."""
    extra = max(found["extra"])
    return Measured(extra / found["bytes"], f"{extra / MB:.1f} MB of {found['bytes'] / MB:,.0f} MB")


def hash_speed(found: Mapping[str, Any]) -> Measured:
    """Our speed by that of one reader that hashes a fresh clone."""
    ours, theirs = median(found["backup"]), median(found["hash"])
    size = found["bytes"] / MB
    through = "" if found["direct"] else "; the image lay in the page cache"
    return Measured(
        theirs / ours, f"{theirs / ours:.2f} x ({size / ours:,.0f} of {size / theirs:,.0f} MB/s{through})"
    )


def import_cost(found: Mapping[str, Any]) -> Measured:
    """Milliseconds over a bare Python."""
    cost = (median(found["import"]) - median(found["bare"])) * 1000
    return Measured(cost, f"{cost:.1f} ms over {median(found['bare']) * 1000:.1f}")


def heavy_modules(found: Mapping[str, Any]) -> Measured:
    """How many of what is slow are loaded."""
    heavy = found["heavy"]
    return Measured(len(heavy), ", ".join(heavy) or f"none; {len(found['modules'])} modules in all")


def slowest_log(found: Mapping[str, Any]) -> Measured:
    """The slowest of pipe and terminal, loose and packed refs."""
    medians = {name: median(times) for name, times in found["seconds"].items()}
    text = ", ".join(f"{name} {seconds(value)}" for name, value in medians.items())
    return Measured(max(medians.values()), f"{seconds(max(medians.values()))} ({text})")


def bytes_a_backup(found: Mapping[str, Any]) -> Measured:
    """How much an unchanged backup adds to the store, when it was just folded."""
    (first, at_first), (last, at_last) = found["folded"][0], found["folded"][-1]
    if last == first:
        return Measured(float("inf"), "never folded")
    each = (at_last - at_first) / (last - first)
    return Measured(each, f"{each:,.0f} bytes (after {last:,} backups)")


def last_to_tenth(found: Mapping[str, Any]) -> Measured:
    """The last twenty backups by those around the tenth."""
    times = found["seconds"]
    measured = against(median(times[-20:]), median(times[4:25]), "then")
    whole = f"; whole processes {seconds(median(found['whole_late']))}, then {seconds(median(found['whole_early']))}"
    return measured._replace(text=measured.text + whole)


def most_packs(found: Mapping[str, Any]) -> Measured:
    """The most packs to be folded at any time."""
    return Measured(found["most_packs"], str(found["most_packs"]))


def ten_to_one(found: Mapping[str, Any]) -> Measured:
    """The store of ten experiments by that of one."""
    one, ten = found["bytes"][0], found["bytes"][-1]
    return Measured(ten / one, f"{ten / one:.4f} x ({ten / MB:,.1f} MB, one {one / MB:,.1f} MB)")
