"""Scenarios of what starts a process for a moment: `import tensortime`, `tensortime log`."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.commands import plain_environment, run
from benchmarks.setting import PROGRAM, Setting, in_turn, store_of, tensortime

IMPORTS = 25
LOGS = 7
HEAVY = ("typer", "git", "rich")


def importing(setting: Setting) -> dict[str, Any]:
    """`import tensortime` against a bare Python, in turn, and what it loads."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}

    def python(statement: str) -> None:
        subprocess.run([sys.executable, "-c", statement], cwd=setting.folder, env=environment, check=True)

    seconds = in_turn(
        IMPORTS, {"bare": lambda: python("pass"), "import": lambda: python("import tensortime")}
    )
    listed = "import sys; before = set(sys.modules); import tensortime; print(*set(sys.modules) - before)"
    modules = sorted(run(sys.executable, "-c", listed, cwd=setting.folder).output.split())
    return {**seconds, "modules": modules, "heavy": [name for name in HEAVY if name in modules]}


def log(setting: Setting) -> dict[str, Any]:
    """`tensortime log` of 10,000 experiments: through a pipe (all) and on a terminal (20), refs loose and packed."""
    project = setting.folder / "project"
    project.mkdir()
    (project / "train.py").write_bytes(b"lr = 3e-4\n")
    tensortime("backup", "--name", "base", project=project)
    count = setting.some(10_000)
    setting.say(f"log: making {count:,} experiments")
    make_experiments(project, count)
    found: dict[str, Any] = {"experiments": count + 1}
    words = [str(PROGRAM), "log", "--store", str(store_of(project))]
    for kind in ("loose", "packed"):
        if kind == "packed":
            run("git", f"--git-dir={store_of(project) / '.shadow'}", "pack-refs", "--all")
        listed = run(*words, cwd=project).output
        if "run-00000" not in listed:
            raise RuntimeError(f"log does not list what was made: {listed[:200]}")
        seconds = in_turn(
            LOGS,
            {
                f"pipe, {kind} refs": lambda: run(*words, cwd=project),
                f"terminal, {kind} refs": lambda: on_terminal(words, project),
            },
        )
        found |= {"seconds": {**found.get("seconds", {}), **seconds}}
    return found


def make_experiments(project: Path, count: int) -> None:
    """So many experiments of one backup each, all with the tree of `base`: commits and refs, by `git fast-import`."""
    from tensortime.trailers import BackupFacts, encode_message

    git = ("git", f"--git-dir={store_of(project) / '.shadow'}")
    tree = run(*git, "rev-parse", "refs/experiments/base^{tree}").output.strip()
    start = 1_600_000_000
    with open(project.parent / "stream", "w+b") as stream:
        for number in range(count):
            facts = BackupFacts(
                note=f"lr {number}e-4, a little longer than the last one",
                number=1,
                time_ns=(start + number) * 10**9,
                host_id="benchmark",
                project=str(project),
                status="done",
                files=1,
                size=10,
                command=("python", "train.py", "--lr", f"{number}e-4"),
                params={"lr": number * 1e-4, "epochs": 90, "model": "resnet50"},
                metrics={"loss": 1 / (number + 1), "accuracy": 0.9},
            )
            message = encode_message(facts)
            stream.write(
                b'commit refs/experiments/run-%05d\ncommitter b <b@b> %d +0000\ndata %d\n%s\nM 040000 %s ""\n\n'
                % (number, start + number, len(message), message, tree.encode())
            )
        stream.seek(0)
        subprocess.run([*git, "fast-import", "--quiet"], stdin=stream, check=True, capture_output=True)


def on_terminal(words: list[str], cwd: Path) -> None:
    """Run a command on a terminal of 120 columns, and read what it writes."""
    with terminal() as (ours, theirs):
        environment = {**plain_environment(), "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
        process = subprocess.Popen(
            words, cwd=cwd, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        with contextlib.suppress(OSError):  # EIO: nobody writes any more
            while os.read(ours, 1 << 16):
                pass
        if process.wait():
            raise RuntimeError(f"{' '.join(words)} ended with {process.returncode} on a terminal")


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal; whoever takes the second closes it."""
    ours, theirs = os.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
