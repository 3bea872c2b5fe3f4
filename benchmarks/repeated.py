"""Scenarios of what is done again and again: an unchanged project, a million files, a thousand backups."""

import time
from pathlib import Path
from typing import Any

from benchmarks.rounds import timed
from benchmarks.setting import Setting, probe, store_of, tensortime
from benchmarks.tools import disk_usage
from benchmarks.trees import CODE, MANY, make_tree

PAIRS = 7
SETTLED = 3
"""Seconds after which a small file that was written is recognised by its stat."""
WHOLE = 7


def unchanged(setting: Setting) -> dict[str, Any]:
    """*many* again in the same process, in turn with a bare `os.scandir` + `lstat` walk of it."""
    project = setting.folder / "project"
    make_tree(MANY, project, setting.scale)
    tensortime("backup", project=project)
    return probe("unchanged", project, str(max(PAIRS, setting.rounds)))


def million(setting: Setting) -> dict[str, Any]:
    """1,000,000 files of 64 bytes, 1,000 a folder, and 50,000 of the same kind: each unchanged, in one process."""
    found: dict[str, Any] = {}
    for name, count in (("small", setting.some(50_000)), ("large", setting.some(1_000_000))):
        project = setting.folder / name
        setting.say(f"million: making {count:,} files")
        make_tiny_files(project, count)
        time.sleep(SETTLED)
        setting.say(f"million: first backup of {count:,} files")
        first = tensortime("backup", project=project)
        setting.say(f"million: {count:,} files unchanged")
        found[name] = probe("unchanged", project, str(max(5, setting.rounds)))
        found[name]["first_peak"] = first.peak
    return found


def make_tiny_files(project: Path, count: int) -> None:
    """So many files of 64 bytes, no two alike."""
    for number in range(count):
        if number % 1000 == 0:
            folder = project / f"part{number // 1000:04}"
            folder.mkdir(parents=True)
        with open(folder / f"{number:07}", "wb") as file:
            file.write(b"%064d" % number)


def thousand(setting: Setting) -> dict[str, Any]:
    """1,000 backups of an unchanged project of 20 small files and one of 2 MiB, in one process; before and after them a
    few as whole processes."""
    project = setting.folder / "project"
    (project / "src").mkdir(parents=True)
    for number in range(20):
        (project / "src" / f"file{number}.py").write_bytes(b"x = %d\n" % number * 100)
    (project / "data.bin").write_bytes(bytes(range(256)) * 8192)

    def whole() -> list[float]:
        return [timed(lambda: tensortime("backup", project=project)) for _ in range(WHOLE)]

    tensortime("backup", project=project)
    early = whole()
    found = probe("thousand", project, str(max(120, setting.some(1000))))
    return {**found, "whole_early": early, "whole_late": whole()}


def ten_experiments(setting: Setting) -> dict[str, Any]:
    """Ten experiments of *code* with the same data, one small file changed before each: the store against one's."""
    project = setting.folder / "project"
    make_tree(CODE, project, setting.scale)
    sizes = []
    for number in range(10):
        (project / CODE.small).write_bytes(b"# experiment %d\n" % number * 300)
        tensortime("backup", "--name", f"run{number}", project=project)
        sizes.append(disk_usage(store_of(project)))
    return {"bytes": sizes}
