"""Many processes at one store: each draws its steps at random and keeps a journal of what it was told.

python crowd.py STORE FOLDER SEED SECONDS COUNT
"""

import hashlib
import importlib
import json
import multiprocessing
import os
import pkgutil
import random
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import tensortime
from tensortime import api, folding, fsops, grace
from tensortime.errors import TensorTimeError

UNTRUSTED = "UNTRUSTED"
"""With this variable it is as on NFS, where no lock tells who else is there, and a round stands for gc's day."""

STEPS = {"backup": 6, "restore": 3, "rm": 3, "gc": 2, "undelete": 1, "verify": 1, "log": 1}
"""What may come next, and how often. Packs are folded by every backup that finds more than a few."""

ROUND = 2.0
"""Seconds in which steps begin. Where locks are trusted gc wants the store for itself: it comes first in a round."""

LARGE = 1 << 20
SHARED, SHARERS_FROM = "project-shared", 12
RACES = {"store-busy", "unknown-experiment", "not-found", "ambiguous-name", "no-store"}
"""What a step may be told because another process was quicker."""


class Told(NamedTuple):
    """One line of a journal: what was done to which experiment, and the files that this backup has."""

    what: str
    name: str
    commit: str
    files: dict[str, str]
    began: float
    ended: float


def read_journals(folder: Path) -> list[Told]:
    """All that the processes were told."""
    lines = [line for path in sorted(folder.glob("journal-*")) for line in path.read_text().splitlines()]
    return [Told(*json.loads(line)) for line in lines]


def files_of(folder: Path) -> dict[str, str]:
    """Every file of a project or worktree, and the digest of its bytes; a link counts as the file it leads to."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
        and path.relative_to(folder).parts[0] not in (".git", ".tensortime", "tensortime")
    }


class Member:
    """One process. It has a project of its own, whose files are those that others have too, or have not.

    The last four share one project, and add to each other's experiments.
    """

    def __init__(self, store: Path, folder: Path, seed: str, number: int) -> None:
        self.store, self.folder, self.number = store, folder, number
        self.random = random.Random(f"{seed}/{number}")
        self.shares = number >= SHARERS_FROM
        self.project = folder / (SHARED if self.shares else f"project-{number}")
        if not self.shares:
            self.project.mkdir()
        self.names: list[str] = []
        self.count = 0
        self.journal = open(folder / f"journal-{number}", "w", buffering=1)  # noqa: SIM115 - as long as the process

    def tell(self, what: str, name: str, commit: str, files: dict[str, str], began: float) -> None:
        """Write down what was done."""
        told = Told(what, name, commit, files, began, time.monotonic())
        self.journal.write(json.dumps(told) + "\n")

    def step(self, what: str) -> None:
        """Do one thing; that others were quicker is no failure."""
        try:
            getattr(self, what)()
        except TensorTimeError as problem:
            if problem.kind not in RACES:
                raise
            self.tell("race", what, str(problem), {}, time.monotonic())

    def change(self) -> None:
        """Write a few files anew: in place or beside, large or small, as somebody else has them or as nobody has."""
        for _ in range(self.random.randrange(1, 4)):
            kind, slot = self.random.choice(["large", "small"]), self.random.randrange(4)
            whose = self.random.choice([0, 0, 1, 2, self.number])
            data = b"%d %d " % (whose, slot) * (200 + slot)
            if kind == "large":
                data = data.ljust(LARGE + whose, b"x")
            path = self.project / f"{kind}-{slot}"
            if self.random.random() < 0.5:
                path.write_bytes(data)
            else:
                (self.project.parent / f"new-{self.number}").write_bytes(data)
                os.replace(self.project.parent / f"new-{self.number}", path)

    def backup(self) -> None:
        """One backup, in an experiment of its own or on top of an older one."""
        joined = None
        if self.shares:
            joined = f"shared-{self.random.randrange(3)}"
        else:
            self.change()
            if self.names and self.random.random() < 0.3:
                joined = self.random.choice(self.names)
        name = joined or f"p{self.number:02}-{self.count:05}"  # none is a part of another
        files, began = files_of(self.project), time.monotonic()
        report = api.backup(directory=self.project, store=self.store, name=name, joins=joined is not None)
        assert report.exit_code == 0, (report.skipped, report.changed, report.lost)
        assert report.experiment == name, report
        if joined is None:
            self.names.append(name)
        self.tell("backup", name, str(report.commit), files, began)

    def one_of_all(self) -> str:
        """The name of any experiment in the store."""
        found = api.log(directory=self.project, store=self.store, everything=True)
        assert found.damaged == (), found.damaged
        return str(self.random.choice(found.experiments).name) if found.experiments else "none"

    def log(self) -> None:
        """List all, and show one."""
        began, name = time.monotonic(), self.one_of_all()
        api.show(name, directory=self.project, store=self.store)
        self.tell("log", name, "", {}, began)

    def rm(self) -> None:
        """Move one into the trash."""
        began, name = time.monotonic(), self.one_of_all()
        try:
            tensortime.rm([name], directory=self.project, store=self.store)
        finally:
            self.tell("rm", name, "", {}, began)

    def undelete(self) -> None:
        """Take one back."""
        began, entries = (
            time.monotonic(),
            tensortime.trashed(directory=self.project, store=self.store).entries,
        )
        if entries:
            name = str(self.random.choice(entries).experiment.name)
            tensortime.undelete([name], directory=self.project, store=self.store)
            self.tell("undelete", name, "", {}, began)

    def gc(self) -> None:
        """Free what nobody needs, half of the time with the trash."""
        began = time.monotonic()
        report = tensortime.gc(trash=self.random.random() < 0.5, directory=self.project, store=self.store)
        assert report.exit_code == 0, report
        self.tell("gc", "", "", {}, began)

    def verify(self) -> None:
        """Read every byte of the store."""
        began = time.monotonic()
        found = tensortime.verify(read_data="all", directory=self.project, store=self.store)
        assert found.problems == (), found.problems
        self.tell("verify", "", "", {}, began)

    def restore(self) -> None:
        """Bring one back and look at it; some of these folders stay."""
        began, place = time.monotonic(), self.folder / f"out-{self.number}-{self.count}"
        report = api.restore(
            self.one_of_all(),
            place,
            link=self.random.choice(["auto", "symlink"]),
            directory=self.project,
            store=self.store,
        )
        self.tell("restore", str(report.experiment), str(report.commit), files_of(place), began)
        if self.random.random() < 0.7:
            shutil.rmtree(place)
        else:
            self.tell("stays", place.name, str(report.commit), {}, began)

    def run(self, rounds: "Rounds") -> None:
        """Round after round, until the time is over; two begin each with a gc."""
        self.step("backup")
        while rounds.go_on():
            if self.number < 2:
                self.step("gc")
            while rounds.is_on():
                self.count += 1
                self.step(self.random.choices(list(STEPS), list(STEPS.values()))[0])
                time.sleep(self.random.random() ** 2)


class Rounds:
    """Between two rounds no step is under way: without trusted locks a round stands for the day that gc waits."""

    def __init__(self, seconds: float, count: int) -> None:
        self.end = time.monotonic() + seconds
        context = multiprocessing.get_context("fork")
        self.began, self.began_ns = context.Value("d", 0.0), context.Value("q", 0)
        self.over = context.Value("b", 0)
        self.meeting = context.Barrier(count, self.begin)

    def begin(self) -> None:
        """What one of the processes does when all have met."""
        self.began.value, self.began_ns.value = time.monotonic(), time.time_ns()
        self.over.value = time.monotonic() > self.end

    def go_on(self) -> bool:
        """Wait for all others; whether there is another round."""
        self.meeting.wait()
        return not self.over.value

    def is_on(self) -> bool:
        """Whether the round lasts on."""
        return bool(time.monotonic() < self.began.value + ROUND)


def storm(store: Path, folder: Path, seed: str, seconds: float, count: int) -> int:
    """Let so many processes work at one store."""
    folding.MOST_PACKS = 5
    rounds, is_old = Rounds(seconds, count), grace.is_ripe
    if UNTRUSTED in os.environ:
        fsops.trusts_locks = lambda path: False
        grace.GRACE_NS = 0
        grace.is_ripe = lambda mark, now, oldest: (
            mark.since_ns < rounds.began_ns.value and is_old(mark, now, oldest)
        )
    (folder / SHARED).mkdir()
    for number in range(8):
        (folder / SHARED / f"small-{number}").write_bytes(b"0 %d " % number * (200 + number))
        (folder / SHARED / f"large-{number}").write_bytes(b"0 %d " % number * (LARGE // 4))

    def work(number: int) -> None:
        try:
            Member(store, folder, seed, number).run(rounds)
        except threading.BrokenBarrierError:
            pass  # another has failed
        except BaseException:
            rounds.meeting.abort()
            raise

    return together(count, work)


def array(journal: Path, count: int) -> int:
    """The tasks of a Slurm array that all start in the same moment, for a train.py that calls this."""
    start, go = os.pipe()

    def task(number: int) -> None:
        os.close(go)
        os.read(start, 1)  # until the last who could write has closed it
        os.environ.update(SLURM_JOB_ID=str(4000 + number), SLURM_ARRAY_JOB_ID="4000", SLURM_PROCID="0")
        os.environ.update(SLURM_ARRAY_TASK_ID=str(number))
        machine = tensortime.TimeMachine(exp_suffix="sweep", strict=True)
        report = machine.backup(params={"task": number})
        (journal / f"task-{number}").write_text(f"{report.experiment} {report.commit}")

    return together(count, task, lambda: os.close(go))


def together(count: int, work: Callable[[int], None], begin: Callable[[], None] = lambda: None) -> int:
    """Do the work in so many processes at once; how many of them failed. Everything is loaded before they part."""
    for module in pkgutil.iter_modules(tensortime.__path__):
        if module.name != "__main__":
            importlib.import_module(f"tensortime.{module.name}")
    children = []
    for number in range(count):
        child = os.fork()
        if not child:
            os._exit(outcome(work, number))
        children.append(child)
    begin()
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


def outcome(work: Callable[[int], None], number: int) -> int:
    """0 where the work was done; else what went wrong stands on stderr."""
    try:
        work(number)
    except BaseException:  # noqa: BLE001 - whatever it is, the parent's test shows it
        sys.stderr.write(f"process {number}:\n{traceback.format_exc()}")
        sys.stderr.flush()
        return 1
    return 0


if __name__ == "__main__":
    place, top, seed, seconds, count = sys.argv[1:]
    sys.exit(storm(Path(place), Path(top), seed, float(seconds), int(count)))
