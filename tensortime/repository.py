"""The user's own git repository, read and never written, but for the one line in `info/exclude`.

No program of the user's starts for it: no hook, no filter, no fsmonitor. What cannot be found out is an `error`
among the facts, never an exception.
"""

import contextlib
import os
import re
import selectors
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tensortime import fsops
from tensortime.formats import RelPath, text_of
from tensortime.gitcommand import clean_environment, git_program
from tensortime.redaction import redact_text

SHADOW = b".shadow"
"""The shadow repository's folder: a restored worktree's `.git` leads there, and that is not the user's."""

LONGEST_ANSWER_SECONDS = 30.0
"""A `git status` that takes longer is given up; only `dirty` is lost."""

LONGEST_ANSWER = 256 << 20
"""Bytes. `git status` of a million changed files is half of it."""

NOT_IN_TIME = "not known in time"

STATUS = ("status", "--porcelain=v2", "--branch", "-z", "-uno", "--ignore-submodules=dirty", "--no-renames")
"""Without untracked files, renames and a look into submodules: nothing is started and little is read."""

CONFIG = ("config", "-z", "--get-regexp", r"^(remote\..*\.url|filter\..*\.(clean|smudge|process|required))$")

SETTINGS = {
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "protocol.allow": "never",
    "status.aheadBehind": "false",
}

QUIET = {
    "GIT_OPTIONAL_LOCKS": "0",  # status may not write the index
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TRACE2": "0",
    "GIT_TRACE2_EVENT": "0",
    "GIT_TRACE2_PERF": "0",
}

Facts = dict[str, Any]


class GitFolders(NamedTuple):
    """Where a repository keeps its things: a linked worktree and a submodule have them elsewhere."""

    top: bytes
    git_dir: bytes
    """HEAD and the index."""
    common_dir: bytes
    """Refs, objects and configuration."""


class Head(NamedTuple):
    """What is checked out; no `oid` before the first commit, no `branch` when detached."""

    oid: str | None
    branch: str | None


def find_repository(folder: bytes) -> GitFolders | None:
    """The repository around `folder`, as git looks for it: upward, on the same file system."""
    top = os.path.realpath(folder)
    device = os.stat(top).st_dev
    while True:
        found = repository_at(top)
        if found is not None:
            return found
        above = os.path.dirname(top)
        if above == top or os.stat(above).st_dev != device:
            return None
        top = above


def repository_at(top: bytes) -> GitFolders | None:
    """The repository with its `.git` in `top`; ValueError for a `.git` file that leads nowhere."""
    git_dir = os.path.join(top, b".git")
    try:
        mode = os.stat(git_dir).st_mode
    except OSError:
        return None
    if not stat.S_ISDIR(mode):
        content = fsops.read_file(os.path.realpath(git_dir), limit=1 << 16)
        if not content.startswith(b"gitdir:"):
            raise ValueError("the .git file is not one of git's")
        git_dir = os.path.normpath(os.path.join(top, content.removeprefix(b"gitdir:").strip()))
        if not os.path.isdir(git_dir):
            raise ValueError(f"the .git file leads to {text_of(git_dir)}, which does not exist")
    elif not os.path.lexists(os.path.join(git_dir, b"HEAD")):
        # An empty `.git` folder is none for git either: it looks further up.
        return None
    common = b"."
    with contextlib.suppress(OSError):
        common = fsops.read_file(os.path.join(git_dir, b"commondir"), limit=1 << 16).strip()
    return GitFolders(top, git_dir, os.path.normpath(os.path.join(git_dir, common)))


def read_head(where: GitFolders) -> Head:
    """HEAD, followed to its commit through loose and packed refs."""
    name, branch = b"HEAD", None
    for _ in range(5):  # as many as git follows
        value = read_ref(where, name)
        if re.fullmatch(rb"[0-9a-f]{40}|[0-9a-f]{64}", value):
            return Head(value.decode("ascii"), branch)
        name = value.removeprefix(b"ref:").strip()
        # A ref is a file's path: never one that leads out of the repository.
        if not value.startswith(b"ref:") or not name.startswith(b"refs/") or b".." in name:
            break
        if branch is None and name.startswith(b"refs/heads/") and name != b"refs/heads/.invalid":
            branch = text_of(name.removeprefix(b"refs/heads/"))
    return Head(None, branch)


def read_ref(where: GitFolders, name: bytes) -> bytes:
    """The text of a ref, of its own file or of packed-refs; empty where there is none."""
    for folder in (where.git_dir, where.common_dir):
        with contextlib.suppress(OSError):
            return fsops.read_file(os.path.join(folder, name), limit=4096).strip()
    with contextlib.suppress(OSError):
        packed = fsops.read_file(os.path.join(where.common_dir, b"packed-refs"), limit=1 << 26)
        line = re.search(rb"^([0-9a-f]+) " + re.escape(name) + rb"$", packed, re.MULTILINE)
        return line[1] if line else b""
    return b""


def nested_heads(paths: Iterable[tuple[bytes, RelPath]]) -> list[Facts]:
    """What is checked out in the nested repositories of a project: [{"path", "head"}], no process started.

    `paths` are their folders, each as absolute path and as path in the project; one that is no repository
    (any more) is left out.
    """
    heads = []
    for folder, path in paths:
        with contextlib.suppress(OSError, ValueError):
            where = repository_at(folder)
            if where is not None:
                heads.append({"path": text_of(path), "head": read_head(where).oid})
    return heads


def user_repository(folder: str) -> Facts | None:
    """The user's repository around `folder`; None where there is none.

    {"top", "head", "branch", "dirty", "remotes": {name: url}}, and "error", one line, where git could not answer:
    then `dirty` is None and the rest is what its files tell. `dirty` means tracked files. A file under a filter
    (git-lfs) counts as changed once its time changed: only the filter could tell, and none is started.
    """
    known, where = facts_of_files(folder)
    return known if known is None or where is None else facts_of_git(where, known, GitCalls())[0]


def facts_of_files(folder: str) -> tuple[Facts | None, GitFolders | None]:
    """What the files of a repository tell without git, and where they are."""
    unknown: Facts = {"top": None, "head": None, "branch": None, "dirty": None, "remotes": {}}
    try:
        where = find_repository(os.fsencode(folder))
        if where is None or os.path.basename(where.common_dir) == SHADOW:
            return None, None
        head = read_head(where)
    except (OSError, ValueError) as problem:
        return {**unknown, "error": one_line(problem)}, None
    return {**unknown, "top": text_of(where.top), "head": head.oid, "branch": head.branch}, where


class Settled(NamedTuple):
    """What git told of a repository, for who wants to ask it more."""

    filters: Mapping[str, str]
    """Settings under which no filter is started."""
    is_pushed: bool
    """Whether HEAD is known to be where its branch on a remote is."""


def facts_of_git(where: GitFolders, known: Facts, calls: "GitCalls") -> tuple[Facts, Settled | None]:
    """`known` with what git adds to it; None where git could not answer."""
    try:
        config = parse_config(calls.ask(where.top, CONFIG, accept=(0, 1)))
        known = {**known, "remotes": remotes(config)}
        filters = without_filters(config)
        answer = calls.ask(where.top, STATUS, settings=filters)
        return {**known, **parse_status(answer)}, Settled(filters, stands_on_remote(answer, known["remotes"]))
    except Exception as problem:  # noqa: BLE001 - facts about git are never worth a backup
        return {**known, "error": one_line(problem)}, None


def stands_on_remote(answer: bytes, names: Iterable[str]) -> bool:
    """Whether `git status` says that HEAD is the commit of its branch on one of these remotes."""
    lines = answer.split(b"\0")
    upstream = next((line for line in lines if line.startswith(b"# branch.upstream ")), b"")
    tracked = text_of(upstream.removeprefix(b"# branch.upstream "))
    return b"# branch.ab +0 -0" in lines and any(tracked.startswith(f"{name}/") for name in names)


def one_line(problem: BaseException) -> str:
    """An exception as one line without secrets."""
    lines = [line for line in str(problem).splitlines() if line.strip()]
    return redact_text(lines[0].strip() if lines else type(problem).__name__)[:500]


def parse_config(answer: bytes) -> dict[str, str]:
    """`git config -z` as a mapping; of several values the first, which is the URL that fetch uses."""
    values: dict[str, str] = {}
    for entry in answer.split(b"\0"):
        key, _, value = entry.partition(b"\n")
        if key:
            values.setdefault(text_of(key), text_of(value))
    return values


def remotes(config: Mapping[str, str]) -> dict[str, str]:
    """The remotes with their URLs, without users and passwords."""
    urls = {key: redact_text(url) for key, url in config.items() if key.startswith("remote.")}
    return {key.removeprefix("remote.").removesuffix(".url"): url for key, url in urls.items()}


def without_filters(config: Mapping[str, str]) -> dict[str, str]:
    """Settings under which status starts no filter: git-lfs would write its objects into the repository."""
    keys = [key for key in config if key.startswith("filter.")]
    return {key: "false" if key.endswith(".required") else "" for key in keys}


def parse_status(answer: bytes) -> Facts:
    """`git status --porcelain=v2 --branch -z`: commit, branch, and whether a tracked file differs."""
    fields = answer.split(b"\0")
    headers = dict(line[2:].split(b" ", 1) for line in fields if line.startswith(b"# branch."))
    if b"branch.oid" not in headers:
        raise ValueError("git status gave no answer")
    head, branch = text_of(headers[b"branch.oid"]), text_of(headers.get(b"branch.head", b"(detached)"))
    return {
        "head": None if head == "(initial)" else head,
        "branch": None if branch == "(detached)" else branch,
        "dirty": any(line and not line.startswith(b"# ") for line in fields),
    }


def setting_variables(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as variables, where `-c` would take a `=` in the name of a filter for the end of the key."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a git and what it started: where `git` is a script, its child would go on and hold the pipes open."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


class GitCalls:
    """Asks git, one command at a time, until a time limit or until another thread says `stop`."""

    def __init__(self, seconds: float = LONGEST_ANSWER_SECONDS) -> None:
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def ask(
        self,
        top: bytes,
        words: Sequence[str],
        settings: Mapping[str, str] | None = None,
        accept: Sequence[int] = (0,),
        limit: int = LONGEST_ANSWER,
    ) -> bytes:
        """The output of one git command in `top`; ValueError if it fails or says more, TimeoutError if it is stopped."""
        process = self._start(top, words, {**SETTINGS, **(settings or {})})
        try:
            output, errors = self._listen(process, limit)
        finally:
            self._forget(process)
        if self._stopped:
            raise TimeoutError(NOT_IN_TIME)
        if len(output) > limit:
            raise ValueError(f"more than {limit >> 20} MiB")
        if process.returncode not in accept:
            said = text_of(errors).strip().splitlines()
            cause = next((line for line in said if line.startswith(("fatal:", "error:"))), "".join(said[-1:]))
            raise ValueError(cause.removeprefix("fatal: ") or f"git ended with code {process.returncode}")
        return output

    def _listen(self, process: subprocess.Popen[bytes], limit: int) -> tuple[bytes, bytes]:
        """What a git says on its output and beside it, until it ends, says more than `limit`, or time is up."""
        said = {pipe: bytearray() for pipe in (process.stdout, process.stderr) if pipe is not None}
        output, errors = said.values()
        with selectors.DefaultSelector() as selector:
            for pipe in said:
                selector.register(pipe, selectors.EVENT_READ, said[pipe])
            while selector.get_map() and len(output) <= limit:
                ready = selector.select(max(0.0, self._end - time.monotonic()))
                if not ready:
                    self.stop()
                    break
                for key, _ in ready:
                    heard = os.read(key.fd, 1 << 16)
                    key.data.extend(heard if key.data is output or len(errors) < limit else b"")
                    if not heard:
                        selector.unregister(key.fileobj)
        if len(output) <= limit and not self._stopped:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, self._end - time.monotonic()))
        return bytes(output), bytes(errors)

    def stop(self) -> None:
        """End the running command, and start no other."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                end_group(self._process)

    def _start(
        self, top: bytes, words: Sequence[str], settings: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start git in `top`, and only there: where it holds no repository, one further up is no answer."""
        folder = os.fsdecode(top)
        environment = {
            **clean_environment(),
            **QUIET,
            "GIT_CEILING_DIRECTORIES": os.path.dirname(folder),
            **setting_variables(settings),
        }
        with self._lock:
            if self._stopped:
                raise TimeoutError(NOT_IN_TIME)
            self._process = subprocess.Popen(
                [git_program(), "-C", folder, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                process_group=0,
            )
            return self._process

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        """Leave neither process nor descriptor behind."""
        with self._lock:
            self._process = None
        if process.poll() is None:
            end_group(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
