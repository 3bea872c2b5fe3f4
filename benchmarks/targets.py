"""What was aimed at: each target, the number that was measured, and whether it is met. Pure: numbers in, verdicts out."""

from dataclasses import dataclass
from functools import partial

from benchmarks.measures import (
    Measured,
    Number,
    bytes_a_backup,
    extra_bytes,
    fastest_rival,
    hash_speed,
    heavy_modules,
    import_cost,
    last_to_tenth,
    linear,
    megabytes,
    million_memory,
    most_packs,
    one_changed,
    peak,
    ratio,
    scenario,
    slowest_log,
    ten_to_one,
    walk_ratio,
)
from benchmarks.numbers import Numbers


@dataclass(frozen=True)
class Target:
    """One thing to be met."""

    name: str
    """By this `bounds.toml` says what bounds it."""
    work: str
    goal: str
    limit: float
    part: str
    """The tree or scenario that it is measured with."""
    number: Number
    at_least: bool = False


@dataclass(frozen=True)
class Verdict:
    """A target, and how it came out."""

    target: Target
    measured: Measured | None
    met: bool | None
    """None: not measured."""
    why: str = ""
    """Why it was not measured."""


def judge(numbers: Numbers) -> list[Verdict]:
    """All targets, in the order of the table."""
    return [verdict(target, numbers) for target in TARGETS]


def verdict(target: Target, numbers: Numbers) -> Verdict:
    """How one came out."""
    measured = target.number(numbers)
    if measured is None:
        return Verdict(target, None, None, numbers.problem(target.part) or "something that it needs failed")
    met = measured.value >= target.limit if target.at_least else measured.value <= target.limit
    return Verdict(target, measured, met)


def on(kind: str, title: str) -> list[Target]:
    """The targets of a file system that shares blocks."""
    part, work = f"huge-{kind}", f"first backup on {title}, *huge*"
    return [
        Target(
            f"{part}-extra",
            work,
            "no extra bytes on disk (at most 0.1 % of it)",
            0.001,
            part,
            scenario(part, extra_bytes),
        ),
        Target(
            f"{part}-speed",
            work,
            "at least 0.9 x one reader that hashes a fresh clone",
            0.9,
            part,
            scenario(part, hash_speed),
            at_least=True,
        ),
        Target(
            f"{part}-memory",
            f"*huge* on {title}: peak memory",
            "backup at most 150 MB",
            150,
            part,
            scenario(part, lambda found: megabytes(found["peak"])),
        ),
        Target(
            f"{part}-restore-memory",
            f"*huge* on {title}: peak memory",
            "restore at most 150 MB",
            150,
            part,
            scenario(part, lambda found: megabytes(found["restore_peak"])),
        ),
    ]


BACKUPS = ("first", "again", "changed")
FIRST, RESTORE = "first backup, ", "restore, "
TARGETS = (
    Target(
        "first-many-cp",
        FIRST + "*many*",
        "at most 1.0 x `cp -r`",
        1.0,
        "many",
        ratio("many", "first", "cp -r"),
    ),
    Target(
        "first-many-git",
        FIRST + "*many*",
        "at most 0.45 x `git add -A`",
        0.45,
        "many",
        ratio("many", "first", "git", "add"),
    ),
    Target(
        "first-many-tmpfs",
        FIRST + "*many* on tmpfs",
        "at most 2.0 x `cp -r`",
        2.0,
        "many-tmpfs",
        ratio("many-tmpfs", "first", "cp -r"),
    ),
    Target(
        "first-code", FIRST + "*code*", "at most 1.0 x `cp -r`", 1.0, "code", ratio("code", "first", "cp -r")
    ),
    Target(
        "first-images",
        FIRST + "*images*",
        "at most 1.1 x `cp -r`",
        1.1,
        "images",
        ratio("images", "first", "cp -r"),
    ),
    *on("xfs", "XFS"),
    *on("btrfs", "btrfs"),
    Target(
        "unchanged-walk",
        "unchanged, *many*, in process",
        "at most 2.5 x a bare `os.scandir` + `lstat` walk",
        2.5,
        "unchanged",
        scenario("unchanged", walk_ratio),
    ),
    Target(
        "unchanged-restic",
        "unchanged, *many*, whole process",
        "at most 0.3 x restic",
        0.3,
        "many",
        ratio("many", "again", "restic"),
    ),
    Target(
        "million-linear",
        "unchanged, 1,000,000 files",
        "a file at most 1.25 x one of 50,000",
        1.25,
        "million",
        scenario("million", linear),
    ),
    Target(
        "million-memory",
        "unchanged, 1,000,000 files: peak memory",
        "at most 600 MB",
        600,
        "million",
        scenario("million", million_memory),
    ),
    Target(
        "large-file-rewritten",
        "one 128 MiB file written anew, *code*",
        "at most 1.3 x `cp` of that file, + unchanged",
        1.3,
        "large-file",
        scenario("large-file", partial(one_changed, way="rewritten")),
    ),
    Target(
        "large-file-edited",
        "a few bytes of one 128 MiB file changed, *code*",
        "at most 1.3 x `cp` of that file, + unchanged",
        1.3,
        "large-file",
        scenario("large-file", partial(one_changed, way="edited")),
    ),
    Target(
        "restore-many",
        RESTORE + "*many*",
        "at most 1.1 x `cp -r`",
        1.1,
        "many",
        ratio("many", "restore", "cp -r"),
    ),
    Target(
        "restore-code",
        RESTORE + "*code*",
        "at most 1.1 x `cp -r`",
        1.1,
        "code",
        ratio("code", "restore", "cp -r"),
    ),
    Target(
        "restore-many-tmpfs",
        RESTORE + "*many* on tmpfs",
        "at most 2.2 x `cp -r`",
        2.2,
        "many-tmpfs",
        ratio("many-tmpfs", "restore", "cp -r"),
    ),
    Target(
        "restore-many-rivals",
        RESTORE + "*many*",
        "ahead of git, dvc, restic, borg",
        1.0,
        "many",
        fastest_rival("many"),
    ),
    Target(
        "restore-code-rivals",
        RESTORE + "*code*",
        "ahead of git, dvc, restic, borg",
        1.0,
        "code",
        fastest_rival("code"),
    ),
    Target("huge-memory", "*huge*: peak memory", "backup at most 150 MB", 150, "huge", peak("huge", BACKUPS)),
    Target(
        "huge-restore-memory",
        "*huge*: peak memory",
        "restore at most 150 MB",
        150,
        "huge",
        peak("huge", ["restore"]),
    ),
    Target(
        "import",
        "`import tensortime`",
        "at most 10 ms over bare python",
        10,
        "import",
        scenario("import", import_cost),
    ),
    Target(
        "import-modules",
        "`import tensortime`",
        "loads neither typer, git nor rich",
        0,
        "import",
        scenario("import", heavy_modules),
    ),
    Target(
        "log",
        "`tensortime log`, 10,000 experiments",
        "at most 0.4 s",
        0.4,
        "log",
        scenario("log", slowest_log),
    ),
    Target(
        "thousand-bytes",
        "1,000 unchanged backups",
        "at most 1 KB each after folding (apparent size)",
        1024,
        "thousand",
        scenario("thousand", bytes_a_backup),
    ),
    Target(
        "thousand-packs",
        "1,000 unchanged backups",
        "at most 50 packs without `.keep` at any time",
        50,
        "thousand",
        scenario("thousand", most_packs),
    ),
    Target(
        "thousand-seconds",
        "1,000 unchanged backups",
        "the 1,000th at most 1.3 x the 10th",
        1.3,
        "thousand",
        scenario("thousand", last_to_tenth),
    ),
    Target(
        "ten-experiments",
        "store, 10 experiments of *code*, same data",
        "at most 1.03 x one",
        1.03,
        "ten-experiments",
        scenario("ten-experiments", ten_to_one),
    ),
)
