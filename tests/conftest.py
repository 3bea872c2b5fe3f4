"""The sealed world that every test runs in. CASES B02, E01, E02, E03.

Nothing of the machine's user is visible, and everything that could mislead git is there: a global configuration
full of hooks, filters and bad defaults, and the GIT_* variables that a git hook or a careless shell leaves behind,
all of them pointing at a decoy repository. After each test the decoy, the home folder and the list of canaries
must be as they were.
"""

import compileall
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest
from builders import Entry, Tree, assert_same_tree, snapshot_of, user_git
from terminals import PACKAGE

FOREIGN = ("GIT_", "XDG_", "TENSORTIME", "LC_")
"""Prefixes of variables that no test may inherit from whoever started it."""

LAUNCHERS = (
    "SLURM_",
    "OMPI_",
    "PMI_",
    "PMIX_",
    "MV2_",
    "JSM_",
    "TORCHELASTIC_",
    "HOROVOD_",
    "TPU_",
    "FLUX_",
    "PALS_",
)
LAUNCHED = {"RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"}
TERMINAL = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "LANG", "LANGUAGE"}

HOSTILE_CONFIG = """
[core]
	autocrlf = true
	eol = crlf
	safecrlf = true
	attributesFile = {home}/attributes
	excludesFile = {home}/ignore-everything
	hooksPath = {home}/hooks
	fsmonitor = {home}/bin/fsmonitor
	pager = {home}/bin/pager
	editor = {home}/bin/editor
	askPass = {home}/bin/askpass
	sshCommand = {home}/bin/ssh
	alternateRefsCommand = {home}/bin/alternates
	fileMode = false
	symlinks = false
	ignoreCase = true
	precomposeUnicode = true
	quotePath = true
	logAllRefUpdates = always
	sharedRepository = 0666
	sparseCheckout = true
	splitIndex = true
	untrackedCache = true
	bigFileThreshold = 1
	abbrev = 4
	fsync = none
[extensions]
	worktreeConfig = true
	partialClone = decoy
[init]
	templateDir = {home}/template
	defaultBranch = refs-from-nowhere
	defaultObjectFormat = sha256
	defaultRefFormat = reftable
[user]
	useConfigOnly = true
[commit]
	gpgSign = true
	template = {home}/no-such-template
	cleanup = strip
[tag]
	gpgSign = true
	sort = -refname
[gpg]
	program = {home}/bin/gpg
[filter "lfs"]
	required = true
	clean = {home}/bin/clean
	smudge = {home}/bin/smudge
	process = {home}/bin/process
[diff]
	external = {home}/bin/diff
	noprefix = true
	mnemonicPrefix = true
[diff "canary"]
	textconv = {home}/bin/textconv
	command = {home}/bin/diff-driver
[merge "canary"]
	driver = {home}/bin/merge
[alias]
	update-ref = "!{home}/bin/alias"
	worktree = "!{home}/bin/alias"
	experiments = "!{home}/bin/alias"
[color]
	ui = always
[column]
	ui = always
[status]
	short = true
	showUntrackedFiles = no
[log]
	showSignature = true
	date = relative
[i18n]
	commitEncoding = ISO-8859-1
	logOutputEncoding = UTF-16
[gc]
	auto = 1
	autoDetach = false
	pruneExpire = now
	worktreePruneExpire = now
[maintenance]
	auto = true
[checkout]
	workers = 8
	guess = true
[index]
	version = 4
	sparse = true
[feature]
	manyFiles = true
[submodule]
	recurse = true
[protocol]
	allow = always
[safe]
	bareRepository = explicit
[credential]
	helper = {home}/bin/credential
[help]
	autoCorrect = immediate
"""

PROGRAMS = (
    *("fsmonitor", "pager", "editor", "askpass", "ssh", "alternates", "gpg", "clean", "smudge", "process"),
    *("diff", "textconv", "diff-driver", "merge", "alias", "credential"),
)
HOOKS = (
    *(
        "post-checkout",
        "reference-transaction",
        "pre-commit",
        "commit-msg",
        "post-commit",
        "post-index-change",
    ),
    *("pre-auto-gc", "post-rewrite", "pre-push", "update", "pre-receive", "post-update"),
)
EXEC_PATH = (
    "git",
    "git-pack-objects",
    "git-repack",
    "git-update-ref",
    "git-worktree",
    "git-checkout",
    "git-remote",
)


class World(NamedTuple):
    """What surrounds every test."""

    home: Path
    decoy: Path
    canary: Path
    """Every program and hook of the hostile configuration writes its name here; it must never exist."""

    def state(self) -> dict[bytes, Entry]:
        """All that no test may change."""
        return snapshot_of(self.home.parent)

    def glance(self) -> Mapping[str, tuple[int, ...]]:
        """What differs where something was changed: `state` reads every byte, and this comes after every test."""
        found = {}
        for folder, folders, files in os.walk(self.home.parent):
            for name in folders + files:
                facts = os.lstat(path := os.path.join(folder, name))
                found[path] = (
                    facts.st_mode,
                    facts.st_ino,
                    facts.st_size,
                    facts.st_mtime_ns,
                    facts.st_ctime_ns,
                )
        return found

    def leaks(self) -> dict[str, str]:
        """What a git hook, a careless shell or an attacker leaves in the environment."""
        programs, config = self.home / "bin", str(self.home / ".gitconfig")
        git = self.decoy / ".git"
        return {
            "GIT_DIR": str(git),
            "GIT_WORK_TREE": str(self.decoy),
            "GIT_INDEX_FILE": str(git / "index"),
            "GIT_OBJECT_DIRECTORY": str(git / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(git / "objects"),
            "GIT_COMMON_DIR": str(git),
            "GIT_NAMESPACE": "decoy",
            "GIT_QUARANTINE_PATH": str(git / "objects" / "quarantine"),
            "GIT_SHALLOW_FILE": str(git / "shallow"),
            "GIT_GRAFT_FILE": str(git / "grafts"),
            "GIT_PREFIX": "sub/",
            "GIT_CONFIG": config,
            "GIT_CONFIG_GLOBAL": config,
            "GIT_CONFIG_SYSTEM": config,
            "GIT_CONFIG_PARAMETERS": f"'core.hookspath'='{self.home / 'hooks'}' 'core.autocrlf'='true'",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "core.fsmonitor",
            "GIT_CONFIG_VALUE_0": str(programs / "fsmonitor"),
            "GIT_CONFIG_KEY_1": "core.autocrlf",
            "GIT_CONFIG_VALUE_1": "true",
            "GIT_TEMPLATE_DIR": str(self.home / "template"),
            "GIT_EXEC_PATH": str(self.home / "exec-path"),
            "GIT_EXTERNAL_DIFF": str(programs / "diff"),
            "GIT_EDITOR": str(programs / "editor"),
            "GIT_PAGER": str(programs / "pager"),
            "GIT_ASKPASS": str(programs / "askpass"),
            "GIT_SSH_COMMAND": str(programs / "ssh"),
            "GIT_PROXY_COMMAND": str(programs / "ssh"),
            "GIT_DEFAULT_HASH": "sha256",
            "GIT_DEFAULT_REF_FORMAT": "reftable",
            "GIT_ICASE_PATHSPECS": "1",
            "GIT_AUTHOR_DATE": "no date",
            "GIT_COMMITTER_DATE": "no date",
            "GIT_TRACE": "1",
        }


def pytest_configure(config: pytest.Config) -> None:
    """Keep what the suite was started with, before the world is sealed.

    The package is compiled once here: under PYTHONDONTWRITEBYTECODE each of thousands of processes would do it.
    """
    config.stash[STRICT] = bool(os.environ.get("TENSORTIME_CI"))
    config.stash[TRIED] = Counter()
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(os.path.join(PACKAGE, "tensortime"), quiet=2)


STRICT = pytest.StashKey[bool]()
TRIED = pytest.StashKey[Counter[str]]()
"""What was tried so often, in this process and in those that have ended."""
EXCUSE = "cannot be installed:"
"""A skip with a reason that begins like this is accepted in CI too: nothing could have been done about it."""


def unexcused(config: pytest.Config) -> list[str]:
    """The tests that were skipped though CI could have run them, each with its reason."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if not config.stash[STRICT] or reporter is None:
        return []
    skips = ((report.nodeid, skip_reason(report)) for report in reporter.stats.get("skipped", []))
    return [f"{test}: {reason}" for test, reason in skips if not reason.startswith(EXCUSE)]


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a test was skipped, as it was written."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that was skipped is a failure. A worker of pytest-xdist hands over what it tried."""
    tried = session.config.stash[TRIED]
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tried"] = dict(tried)
    if session.exitstatus == pytest.ExitCode.OK and unexcused(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name them, and say how much was tried."""
    if tried := config.stash[TRIED]:
        counts = (f"{count:,} {what}" for what, count in sorted(tried.items()))
        terminalreporter.line(f"tried: {', '.join(counts)}")
    if skipped := unexcused(config):
        terminalreporter.section("skipped, and TENSORTIME_CI accepts no skips", red=True)
        for line in skipped:
            terminalreporter.line(line)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Add what a worker of pytest-xdist tried; one that crashed says nothing."""
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    sums = config.stash[TRIED]
    sums.update(getattr(node, "workeroutput", {}).get("tried", {}))


class Tally(Protocol):
    """Counts what a test tried."""

    def __call__(self, what: str, count: int = 1) -> None:
        """Add to the sum of `what`, a plural: "kills", "power-loss states"."""


@pytest.fixture(scope="session")
def tally(request: pytest.FixtureRequest) -> Tally:
    """For tests that try many states, kills, schedules or flips: the sums stand at the end of the session."""
    tried = request.config.stash[TRIED]

    def add(what: str, count: int = 1) -> None:
        tried[what] += count

    return add


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The home folder and the decoy repository, made once."""
    base = tmp_path_factory.mktemp("world")
    home, decoy = Tree(base / "home"), Tree(base / "decoy")
    canary = base / "canary"
    script = b'#!/bin/sh\necho "$0 $*" >> "%s"\nexit 1\n' % os.fsencode(canary)
    places = {"bin": PROGRAMS, "hooks": HOOKS, "template/hooks": HOOKS, "exec-path": EXEC_PATH}
    for folder, names in places.items():
        for name in names:
            home.file(f"{folder}/{name}", script, mode=0o755)
    home.file(
        "attributes",
        b"* filter=lfs text eol=crlf ident working-tree-encoding=UTF-16 diff=canary merge=canary\n",
    )
    home.file("ignore-everything", b"*\n")
    home.file(".gitconfig", HOSTILE_CONFIG.format(home=home.root).encode())
    decoy.file("train.py", b"print('the decoy')\n").file("sub/data.csv", b"1,2\r\n")
    user_git("init", "--quiet", cwd=decoy.root)
    user_git("add", "--all", cwd=decoy.root)
    user_git("commit", "--quiet", "--message=decoy", cwd=decoy.root)
    return World(home.root, decoy.root, canary)


@pytest.fixture(scope="session")
def untouched(world: World) -> Callable[[], None]:
    """Asserts that the world is as it was when this was last called."""
    seen, state = world.glance(), world.state()

    def look() -> None:
        nonlocal seen, state
        if world.glance() != seen:
            before, state, seen = state, world.state(), world.glance()
            assert_same_tree(before, state)

    return look


@pytest.fixture(autouse=True)
def sealed(world: World, untouched: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Seal the environment of one test, and see afterwards that nothing got out of it."""
    for name in list(os.environ):
        if name.startswith(FOREIGN + LAUNCHERS) or name in LAUNCHED | TERMINAL:
            monkeypatch.delenv(name)
    for name, value in world.leaks().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(world.home))
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("TENSORTIME_PAGER", "")  # on a terminal of a test nobody presses q
    yield world
    started = world.canary.read_text() if world.canary.exists() else ""
    world.canary.unlink(missing_ok=True)
    assert not started, f"a program of the user's configuration was started: {started}"
    untouched()
