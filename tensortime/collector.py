"""All that a backup records of the run: found out beside the reading of the files.

What is not known in time is an `error` among the facts, never an exception and never a delay. Only a backup loads
this module: the verbs that read do not pay for it.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from tensortime.environment import current_folder, describe_run
from tensortime.formats import bytes_of
from tensortime.interpreter import Interpreter, shell_interpreter, this_interpreter
from tensortime.launch import environment_facts, launch_facts
from tensortime.machine import machine_facts
from tensortime.notebook import notebook_cells, without_connection
from tensortime.packages import conda_packages, encode_packages, installed
from tensortime.pushed import Pushed, choose, find_pushed
from tensortime.repository import NOT_IN_TIME, Facts, GitCalls, facts_of_files, facts_of_git, one_line
from tensortime.trackers import tracker_runs

LINGER_SECONDS = 0.5
"""A git that was ended is gone sooner; what is still there by then hangs on a file server, and is left to itself."""


class Collector:
    """The facts of one backup: asked in threads of their own, beside the reading of the files.

    What only the calling thread knows (trackers, the cells of a notebook) is asked at once.
    """

    def __init__(
        self,
        project: str,
        argv: Sequence[str] | None,
        folder: str | None,
        from_shell: bool,
        whole: bool,
        environ: Mapping[str, str],
        as_line: bool,
    ) -> None:
        self._facts = {**describe_run(argv, folder), "python": dict(this_interpreter().facts)}
        if as_line:
            self._facts["as_line"] = True
        self._facts |= {
            key: found
            for key, found in (
                ("launch", launch_facts(environ)),
                ("environment", environment_facts(environ)),
                ("trackers", tracker_runs()),
            )
            if found
        }
        self._files: dict[bytes, bytes] = {}
        self._note_notebook()
        self._machine: Facts = {"error": NOT_IN_TIME}
        self._packages: Facts = {"error": NOT_IN_TIME}
        self._git: Facts | None = {"error": NOT_IN_TIME}
        self._pushed: Pushed | None = None
        self._calls = GitCalls()
        self._from_shell, self._whole, self._environ = from_shell, whole, environ
        self._folder, self._words = folder, tuple(argv or ())
        if from_shell:
            self._facts["python"] = {"error": NOT_IN_TIME}
        self._asking = threading.Thread(target=self._ask, args=(project,), name="tensortime-facts")
        # A file server that hangs must not keep Python from ending: git can be ended, this cannot.
        looking = threading.Thread(
            target=self._look, args=(list(sys.path),), name="tensortime-packages", daemon=True
        )
        self._threads = [self._asking, looking]

    def start(self) -> None:
        """Begin to ask; where no thread can start, the facts will lack what it would have found."""
        for thread in self._threads:
            try:
                thread.start()
            except RuntimeError as problem:
                self._git = self._machine = self._packages = {"error": one_line(problem)}

    def finish(
        self, timeout_seconds: float, may_tell: Callable[[bytes, bool], bool] = lambda *_: True
    ) -> tuple[Facts, dict[bytes, bytes]]:
        """All facts, and the files of `.tensortime/` that belong to them, after waiting at most so long.

        `may_tell`: whether a patch may tell of an absolute path, which is gone (True) or there. What is late is an
        `"error"` in its place.
        """
        end = time.monotonic() + timeout_seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, end - time.monotonic()))
        facts, files = {**self._facts, "machine": self._machine}, dict(self._files)
        if self._packages:
            facts["packages"] = self._packages
        git, pushed = self._git, self._pushed
        if git is not None and pushed is not None:
            top = bytes_of(git["top"]) + b"/"
            patch, told = choose(pushed, lambda path, is_gone: may_tell(top + path, is_gone))
            git = {**git, "pushed": told}
            if patch:
                files[b"pushed.patch"] = patch
        facts["git"] = git
        self.cancel()
        return facts, files

    def cancel(self) -> None:
        """End a git that is still running; its thread then ends by itself. May be called again and again."""
        self._calls.stop()

    def close(self) -> None:
        """Cancel, and wait until git is gone. What reads packages cannot be ended: it is not waited for."""
        self.cancel()
        if self._asking.ident is not None:
            self._asking.join(LINGER_SECONDS)

    def _note_notebook(self) -> None:
        """The cells that were run, where there are any, and the command without the kernel's connection."""
        notebook, cells = notebook_cells()
        if notebook is None:
            return
        self._facts["notebook"] = notebook
        if cells:
            self._files[b"cells.py"] = cells
        if "ipykernel" in sys.modules:
            self._facts["command"] = without_connection(self._facts["command"])

    def _ask(self, project: str) -> None:
        """What one thread does: first what files tell, in a millisecond, then what git adds."""
        known, where = facts_of_files(project)
        if known is None or where is None:
            self._git = known
            return
        self._git = {**known, "error": NOT_IN_TIME}
        facts, settled = facts_of_git(where, known, self._calls)
        if settled is not None and self._whole and facts["remotes"] and facts["head"]:
            self._pushed = Pushed(None, error=NOT_IN_TIME)
            self._git = facts
            self._pushed = find_pushed(where, facts["head"], facts["dirty"], settled, self._calls)
        self._git = facts

    def _look(self, path: Sequence[str]) -> None:
        """What the other thread does: the machine, the Python and its packages, by reading a few small files."""
        try:
            self._machine = machine_facts()
            python = self._interpreter(path)
            self._facts["python"] = dict(python.facts)
            if not python.folders:
                self._packages = {"error": str(python.facts.get("error"))}
                return
            self._files[b"packages.txt"] = packages_file(python)
            self._packages = {}
        except Exception as problem:  # noqa: BLE001 - facts are never worth a backup
            self._packages = {"error": one_line(problem)}

    def _interpreter(self, path: Sequence[str]) -> Interpreter:
        """The Python that trains."""
        if not self._from_shell:
            return this_interpreter(path)
        return shell_interpreter(self._environ, self._folder or current_folder() or "/", self._words)


def packages_file(python: Interpreter) -> bytes:
    """`packages.txt` of a Python."""
    found = installed(python.folders)
    conda = conda_packages(python.conda, found) if python.conda else []
    return encode_packages(found, python.facts, conda)


def start_collecting(
    project: str,
    argv: Sequence[str] | None = None,
    folder: str | None = None,
    *,
    from_shell: bool = False,
    whole: bool = True,
    environ: Mapping[str, str] | None = None,
    as_line: bool = False,
) -> Collector:
    """Start to collect the facts of a backup; its `finish` returns them, its `cancel` gives up.

    `argv`, `folder`: the command that it is about, and where that was typed; default: this process.
    `from_shell`: the Python that trains is not this one but the one that the shell would start. `whole`: with the
    patch to the nearest pushed commit, which a backup of single paths does not need. `environ`: the variables that the
    command gets, default: ours. `as_line`: `argv` are the words of a typed line, of which the shell makes others.
    """
    environ = os.environ if environ is None else environ
    collector = Collector(project, argv, folder, from_shell, whole, environ, as_line)
    collector.start()
    return collector
