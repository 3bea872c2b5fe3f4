"""Where and how a program runs: its command, its Python, its machine, the user's own git repository.

The user's repository is only read, and no program of the user's starts for it: no hook, no filter, no
fsmonitor. What cannot be found out is an `error` among the facts, never an exception, and the answer of git is
waited for only as long as the caller likes.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensortime import fsops
from tensortime.formats import RelPath, text_of

HIDDEN = "***"

SECRET_WORDS = {"apikey", "credential", "credentials", "passphrase", "passwd", "password", "secret", "token"}
SECRET_KEYS = {"access", "account", "api", "auth", "private", "secret"}
"""`key` is a secret only behind one of these: api-key, secret_access_key."""

PLAIN_TOKENS = {
    *(
        "audio",
        "begin",
        "bos",
        "cls",
        "decoder",
        "end",
        "eos",
        "first",
        "image",
        "last",
        "mask",
        "max",
        "min",
    ),
    *(
        "new",
        "next",
        "num",
        "pad",
        "per",
        "sep",
        "separator",
        "special",
        "start",
        "stop",
        "text",
        "unk",
        "video",
    ),
}
"""`token` is a parameter of a model behind one of these: pad-token, eos_token."""

NAMED_VALUE = re.compile(r"([+~-]*[\w.@/+-]+)=(.+)", re.DOTALL)
INNER_VALUE = re.compile(
    r"""([\w.-]+)(["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[\w+/=-]{8,}(?=[\s;&|"',}]|$))""", re.ASCII
)
BEARER = re.compile(r"\b(bearer)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
URL_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#\s]*)@")

MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")

SHADOW = b".shadow"
"""The shadow repository's folder: a restored worktree's `.git` leads there, and that is not the user's."""

LONGEST_ANSWER_SECONDS = 30.0
"""A `git status` that takes longer is given up; only `dirty` is lost."""

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


# --- the run


def describe_run(argv: Sequence[str] | None = None) -> Facts:
    """The command as typed, without its secrets, and where it runs; `argv` for another command than this process."""
    command = argv if argv is not None else (sys.orig_argv or sys.argv)
    system = os.uname()
    return {
        "command": redact_arguments([portable(word) for word in command]),
        "cwd": current_folder(),
        "python": {
            "version": sys.version.split()[0],
            "implementation": sys.implementation.name,
            "executable": portable(sys.executable or ""),
            "prefix": portable(sys.prefix),
        },
        "platform": f"{system.sysname} {system.release} {system.machine}",
        "host": portable(system.nodename),
        "pid": os.getpid(),
    }


def portable(text: str) -> str:
    """A string from the system, in the form of `text_of`: the same under every locale."""
    return text_of(os.fsencode(text))


def current_folder() -> str | None:
    """The current folder; None where it was deleted or cannot be read."""
    try:
        return text_of(os.getcwdb())
    except OSError:
        return None


def host_id() -> str:
    """16 hex digits that stay the same on this machine: of its machine id, else of its name."""
    for path in MACHINE_IDS:
        with contextlib.suppress(OSError):
            known = fsops.read_file(os.path.realpath(path), limit=4096).strip().lower()
            if re.fullmatch(rb"[0-9a-f]{32}", known):
                return short_hash(known)
    return short_hash(os.fsencode(os.uname().nodename))


def short_hash(data: bytes) -> str:
    """machine-id(5) asks never to show the id itself, only a keyed hash of it."""
    return hashlib.blake2b(data, digest_size=8, key=b"tensortime host").hexdigest()


# --- secrets


def redact_arguments(argv: Sequence[str]) -> list[str]:
    """The arguments with `***` for what is a secret by its name.

    Hidden are: the argument after `--api-key`, `--password`, `--hf-token` and their like, unless it is an option
    itself; the value of such a `name=value`, also inside a longer argument; what follows `Bearer`; user and
    password in a URL. A name is secret if it ends in one of SECRET_WORDS or in `key` behind one of SECRET_KEYS;
    `--pad-token` and the other PLAIN_TOKENS are parameters and stay.
    """
    safe, hide = [], False
    for argument in argv:
        safe.append(HIDDEN if hide and not argument.startswith("-") else redact_text(argument))
        hide = argument.startswith("-") and "=" not in argument and names_secret(argument)
    return safe


def redact_text(text: str) -> str:
    """One argument, URL or message without the secrets that show as such."""
    named = NAMED_VALUE.fullmatch(text)
    if named is not None and names_secret(named[1]):
        return f"{named[1]}={HIDDEN}"
    text = INNER_VALUE.sub(redact_inner, text)
    return BEARER.sub(rf"\1 {HIDDEN}", redact_url(text))


def redact_inner(found: re.Match[str]) -> str:
    """`name = value` somewhere in a text, with its quotes."""
    if not names_secret(found[1]):
        return found[0]
    quote = found[3][0] if found[3][0] in "\"'" else ""
    return f"{found[1]}{found[2]}{quote}{HIDDEN}{quote}"


def names_secret(name: str) -> bool:
    """Whether a value of this name is a secret: `--hf-token`, `apiKey`, `WANDB_API_KEY`, not `--max-tokens`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    parts = [part for part in re.split(r"[^a-z0-9]+", words) if part]
    last, before = parts[-1:], parts[-2:-1]
    if last == ["key"]:
        return bool(SECRET_KEYS.intersection(before))
    if last == ["token"]:
        return not PLAIN_TOKENS.intersection(before)
    return bool(SECRET_WORDS.intersection(last))


def redact_url(text: str) -> str:
    """A URL without user and password. The user of an ssh URL stays: it is no secret and part of the address."""

    def without_user(found: re.Match[str]) -> str:
        scheme, user = found[1], found[2].partition(":")[0]
        return f"{scheme}://{user}@" if user and scheme.lower().endswith("ssh") else f"{scheme}://"

    return URL_USER.sub(without_user, text)


# --- a git repository, read from its files


@dataclass(frozen=True)
class GitFolders:
    """Where a repository keeps its things: a linked worktree and a submodule have them elsewhere."""

    top: bytes
    git_dir: bytes
    """HEAD and the index."""
    common_dir: bytes
    """Refs, objects and configuration."""


@dataclass(frozen=True)
class Head:
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


# --- the user's repository, asked through GitPython


def user_repository(folder: str) -> Facts | None:
    """The user's repository around `folder`; None where there is none.

    {"top", "head", "branch", "dirty", "remotes": {name: url}}, and "error", one line, where git could not answer:
    then `dirty` is None and the rest is what its files tell. `dirty` means tracked files. A file under a filter
    (git-lfs) counts as changed once its time changed: only the filter could tell, and none is started.
    """
    known, where = facts_of_files(folder)
    return known if known is None or where is None else facts_of_git(where, known, GitCalls())


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


def facts_of_git(where: GitFolders, known: Facts, calls: "GitCalls") -> Facts:
    """`known` with what git adds to it."""
    try:
        with silence("git.cmd"):
            config = parse_config(calls.ask(where.top, CONFIG, accept=(0, 1)))
            known = {**known, "remotes": remotes(config)}
            return {**known, **parse_status(calls.ask(where.top, STATUS, settings=without_filters(config)))}
    except Exception as problem:  # noqa: BLE001 - facts about git are never worth a backup
        return {**known, "error": one_line(problem)}


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


@contextlib.contextmanager
def silence(name: str) -> Iterator[None]:
    """Keep what this thread logs to `name` from the program's log: GitPython logs every command at DEBUG."""
    import logging

    here = threading.get_ident()

    def is_of_others(record: logging.LogRecord) -> bool:
        return record.thread != here

    logger = logging.getLogger(name)
    logger.addFilter(is_of_others)
    try:
        yield
    finally:
        logger.removeFilter(is_of_others)


def load_gitpython() -> Any:
    """GitPython, imported (about 100 ms, and it runs `git version` twice); ValueError where it cannot be used."""
    git = shutil.which("git")
    # Asked first: GitPython without git raises at import, unless a variable of the environment says otherwise.
    if git is None or not os.path.isabs(git):
        raise ValueError("git was not found")
    spec = importlib.util.find_spec("git")
    if spec is None or spec.origin is None:
        raise ValueError("GitPython is not installed")
    # The program's own git.py would be found first: it is not ours to run.
    if not os.path.exists(os.path.join(os.path.dirname(spec.origin), "index", "fun.py")):
        raise ValueError("another module called git hides GitPython")
    return importlib.import_module("git")


def unset_others(ours: Mapping[str, str]) -> list[str]:
    """The start of a command that drops every `GIT_*` of the caller but `ours`; nothing where there is none.

    GitPython copies the caller's environment and can only add to it. Setting each variable to a harmless value
    would need the list of all that git knows, today and later; env(1) removes them, on every system we run on.
    """
    leaked = [name for name in os.environ if name.startswith("GIT_") and name not in ours]
    if not leaked:
        return []
    command = [shutil.which("env") or "/usr/bin/env"]
    for name in leaked:
        command += ["-u", name]
    return command


def setting_variables(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as variables, where `-c` would take a `=` in the name of a filter for the end of the key."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables


class GitCalls:
    """Asks git, one command at a time, until a time limit or until another thread says `stop`.

    Through GitPython's command runner and not through its `Repo`: that reads GIT_DIR, GIT_COMMON_DIR and
    GIT_OBJECT_DIRECTORY of the caller in Python and would open another repository.
    """

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
    ) -> bytes:
        """The output of one git command in `top`; ValueError if it fails, TimeoutError if it is stopped."""
        process = self._start(top, words, {**SETTINGS, **(settings or {})})
        try:
            output, errors = process.communicate(timeout=max(0.0, self._end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.stop()
        finally:
            self._forget(process)
        if self._stopped:
            raise TimeoutError(NOT_IN_TIME)
        if process.returncode not in accept:
            said = text_of(errors).strip().splitlines()
            cause = next((line for line in said if line.startswith(("fatal:", "error:"))), "".join(said[-1:]))
            raise ValueError(cause.removeprefix("fatal: ") or f"git ended with code {process.returncode}")
        return output

    def stop(self) -> None:
        """End the running command, and start no other."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def _start(
        self, top: bytes, words: Sequence[str], settings: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start git through GitPython, which hands it the caller's environment."""
        git = load_gitpython()
        folder = os.fsdecode(top)
        # The ceiling: where `top` holds no repository after all, one further up is no answer.
        environment = {
            **QUIET,
            "GIT_CEILING_DIRECTORIES": os.path.dirname(folder),
            **setting_variables(settings),
        }
        command = [*unset_others(environment), shutil.which("git") or "git", "-C", folder, *words]
        with self._lock:
            if self._stopped:
                raise TimeoutError(NOT_IN_TIME)
            # "/": GitPython expands variables in the folder it is given, and needs one that exists.
            running = git.Git("/").execute(command, as_process=True, env=environment)
            process: subprocess.Popen[bytes] = running.proc
            running.proc = None  # it would wait without end for a process that hangs
            self._process = process
        return process

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        """Leave neither process nor descriptor behind."""
        with self._lock:
            self._process = None
        if process.poll() is None:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


# --- collecting, beside the reading of files


class Collector:
    """The facts of one backup; git is asked in a thread of its own, since importing GitPython takes 100 ms."""

    def __init__(self, project: str, argv: Sequence[str] | None = None) -> None:
        self._run = describe_run(argv)
        self._git: Facts | None = {"error": NOT_IN_TIME}
        self._calls = GitCalls()
        self._thread = threading.Thread(target=self._ask, args=(project,), name="tensortime-facts")

    def start(self) -> None:
        """Begin to ask; where no thread can start, the facts will lack what git knows."""
        try:
            self._thread.start()
        except RuntimeError as problem:
            self._git = {"error": one_line(problem)}

    def finish(self, timeout_seconds: float) -> Facts:
        """All facts, after waiting at most so long for those of git; what is late is `"error"` in `"git"`."""
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        facts = {**self._run, "git": self._git}
        self.cancel()
        return facts

    def cancel(self) -> None:
        """End a git that is still running; its thread then ends by itself. May be called again and again."""
        self._calls.stop()

    def _ask(self, project: str) -> None:
        """What the thread does: first what files tell, in a millisecond, then what git adds."""
        known, where = facts_of_files(project)
        if known is None or where is None:
            self._git = known
            return
        self._git = {**known, "error": NOT_IN_TIME}
        self._git = facts_of_git(where, known, self._calls)


def start_collecting(project: str, argv: Sequence[str] | None = None) -> Collector:
    """Start to collect the facts of a backup; its `finish` returns them, its `cancel` gives up."""
    collector = Collector(project, argv)
    collector.start()
    return collector
