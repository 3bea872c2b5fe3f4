"""What all steps of one backup share: the options, the place, the open store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from tensortime.config import Config
from tensortime.findings import FileStat
from tensortime.formats import RelPath
from tensortime.ignoring import Matcher
from tensortime.monitor import Monitor
from tensortime.names import ExperimentName
from tensortime.packs import PackWriter
from tensortime.project import Place
from tensortime.sidecar import Sidecar
from tensortime.statsums import StatSums
from tensortime.store import Store


class Collector(Protocol):
    """Finds out what run.json records, while the files are read."""

    def finish(
        self, timeout: float, may_tell: Callable[[bytes, bool], bool]
    ) -> tuple[dict[str, object], dict[bytes, bytes]]:
        """What is known by now, and the files of `.tensortime/` that belong to it; they tell only of what may be told."""

    def close(self) -> None:
        """Nobody waits for it any more; when this returns, it has ended where it can be ended."""


@dataclass(frozen=True)
class RunStep:
    """The part that a backup has in a command that `tensortime run` runs."""

    status: str
    """running before it and, of a job that was only submitted, after it; then done, failed or interrupted."""
    runner: Mapping[str, object] = field(default_factory=dict)
    """Who runs it (see `processes`); empty once it has ended."""
    result: Mapping[str, object] | None = None
    """How it ended, for run.json; None before it."""
    also: tuple[RelPath, ...] = ()
    """Paths that are looked at although a rule leaves them out."""
    on_found: Callable[[Sequence[FileStat]], None] = lambda _: None
    """Told of the files that the look at the project found, before any of them is read."""
    before: StatSums = field(default_factory=StatSums)
    """What was there before the command: what is still like this was not written by it."""
    alone: bool = False
    """Nobody but the command writes in this folder, so a changed source file is an output as any other."""


@dataclass(frozen=True)
class BackupOptions:
    """What a backup should do."""

    name: ExperimentName | None = None
    """None: made of the time and the note."""
    joins: bool = False
    """Add a backup to the experiment of this name if there is one, instead of starting `name-2`."""
    note: str = ""
    ignore: tuple[str, ...] = ()
    only: tuple[RelPath, ...] | None = None
    """Put only these paths on top of the experiment's newest backup."""
    params: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, object] = field(default_factory=dict)
    metric_files: tuple[str, ...] = ()
    """Patterns of files out of which metrics are read."""
    rehash: bool = False
    """Read every file, whatever the stat cache says."""
    large_size: int = 1 << 20
    follow: tuple[str, ...] = ()
    ignored_by_config: tuple[str, ...] = ()
    is_hardlink: Callable[[RelPath], bool] = lambda _: False
    max_store: int | None = None
    large_until: float | None = None
    """Up to this time.monotonic() large files are taken in, and none of them by copying; the others are skipped, with
    the reason NOT_AT_ONCE. None: all are, however long it takes."""
    run: RunStep | None = None
    """Made by `tensortime run`, before its command or after it."""


def configured(config: Config, project: str) -> BackupOptions:
    """The options that the configuration of a project decides."""
    return BackupOptions(
        large_size=config.large_size,
        follow=config.follow,
        ignored_by_config=config.ignore,
        is_hardlink=Matcher.of("hardlink", config.hardlink, project).covers,
        max_store=config.max_store,
        metric_files=config.metrics,
    )


@dataclass(frozen=True)
class Session:
    """What all steps of one backup share."""

    place: Place
    store: Store
    options: BackupOptions
    staging: str
    monitor: Monitor

    @cached_property
    def sidecar(self) -> Sidecar:
        """The store's objects, staged in our own folder."""
        return self.store.sidecar(self.staging)

    def writer(self) -> PackWriter:
        """A writer of new packs."""
        return PackWriter(self.store.path(".shadow", "objects", "pack"), self.staging)
