"""The layers of the package, as its import statements show them. DESIGN.md "Layers"; CASES C10.

A module imports only modules of lower lines; modules of one line do not know each other. What depends on the
system, starts processes or talks to a person has one place each.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tensortime

PACKAGE = Path(tensortime.__file__).parent

LAYERS = """
    cli
    shortcuts
    rerun_commands
    upkeep_commands  maintenance_commands  portable_commands  completion  overview  running_commands
    time_machine  commands  hook  manual
    pager  aftermath  render_rerun
    terminal  prompt  render_diff  render_maintenance  portable_text  render_run
    render  render_log  documents  upkeep_text
    verdict_documents
    recollection  recorder  whereabouts
    text
    rerunning
    api  upkeep  maintenance  portable  running
    runner
    surroundings
    jobs
    lookup
    extraction  purging  health  exporting  importing  isolation  reproduction
    unpacked
    snapshot  checkout  editing  stored  present  usage  clearance  fsck  prune
    repair  grace  backlog  recognition
    garbage  supplement  folding
    publication  census  reading  repacking  leftovers  salvage
    ongoing  overlooked  beginning
    commits  destination  reach  trash  selection  roster
    intake  worktrees  session  language  query  plans
    history  project  scan  hardlinks  comparison  retention  outcome
    walk  recipe  statsums
    glances
    metricfiles  findings  hunks  conditions  pairs  inventory  verdict
    suspects  answers  chronicle
    reports  differences  store  ignoring  trees  records  collector
    mending  environment  statcache  experiments
    child  rebuilding
    pushed  interpreter  machine  launch  trackers  notebook
    shadow  repository  packages  gitobjects  sidecar  config  manifest  trailers  policy  names  monitor  handover  unpacking
    outputlog  console
    gitcommand  redaction  messages  packreader  withdrawn  condemned  refusals  bundle  closeness
    errors  formats  packs  ranks  chinese  commandline  verbs  landmarks  credentials  tables  processes  reflocks
    arrays  gaps  relay  cycles  fsops  threads
"""
"""From the faces down to what knows nothing; `__init__` and `__main__` stand above all of it."""

LEVEL = {
    name: number for number, line in enumerate(reversed(LAYERS.strip().splitlines())) for name in line.split()
}
TOP = {"__init__", "__main__"}
FACES = {"cli", "commands", "hook", "time_machine", "__main__", "maintenance_commands", "upkeep_commands"}
FACES |= {"completion", "portable_commands", "running_commands", "rerun_commands"}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))

SYSTEM = {
    "subprocess": {"shadow", "repository", "gitcommand", "pager", "console", "rebuilding"},
    "git": set(),
    "fcntl": {"fsops"},
    "typer": {"cli"},
    "click": set(),
    "ctypes": set(),
}
"""Which modules alone may import what."""


def parsed(name: str) -> ast.Module:
    """The syntax tree of one module."""
    return ast.parse((PACKAGE / f"{name}.py").read_text("utf-8"))


def imports(tree: ast.AST) -> Iterator[str]:
    """The dotted name of everything that is imported, in functions, under TYPE_CHECKING and by importlib too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (str(part.value) for part in node.args if isinstance(part, ast.Constant))


def own_imports(tree: ast.AST) -> set[str]:
    """The modules of the package that are imported."""
    dotted = (name.split(".") for name in imports(tree))
    return {parts[1] for parts in dotted if parts[0] == "tensortime" and len(parts) > 1} & set(MODULES)


def calls(tree: ast.AST) -> Iterator[str]:
    """What is called, as it is written."""
    return (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_every_module_has_a_layer() -> None:
    """A new module is put into a layer before anything imports it, and no layer names a module that is gone."""
    assert set(MODULES) - TOP == set(LEVEL)


@pytest.mark.parametrize("name", sorted(LEVEL))
def test_imports_point_down(name: str) -> None:
    """A module imports only modules of lower lines."""
    upward = {other for other in own_imports(parsed(name)) if LEVEL.get(other, 99) >= LEVEL[name]}
    assert not upward, f"{name} must not know {', '.join(sorted(upward))}"


@pytest.mark.parametrize("name", MODULES)
def test_imports_are_absolute(name: str) -> None:
    """Every import names the package in full, else the test of the layers would not see it."""
    relative = [
        node.lineno for node in ast.walk(parsed(name)) if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative


@pytest.mark.parametrize("module", sorted(SYSTEM))
def test_one_door_to_each_system(module: str) -> None:
    """C10: git and other programs, file locks and typer are each imported in their one place."""
    users = {name for name in MODULES if module in {one.split(".")[0] for one in imports(parsed(name))}}
    assert users == SYSTEM[module]


def test_nothing_starts_processes_behind_the_door() -> None:
    """No module starts a process by other means, and none changes folder, umask, signals or locale of training.

    Only while a command runs, `tensortime run` hands it the signals, and its terminal has a leader; the program, in which
    nothing trains, has the exit codes of what it starts.
    """
    starts = (
        r"multiprocessing\..*|ProcessPoolExecutor|os\.(system|popen|fork\w*|exec\w+|spawn\w+|posix_spawn\w*)"
    )
    changes = r"os\.(chdir|fchdir|umask|putenv|unsetenv)|signal\.signal|locale\.setlocale|fcntl\.lockf"
    forbidden = re.compile(f"{starts}|{changes}")
    found = {(name, call) for name in MODULES for call in calls(parsed(name)) if forbidden.fullmatch(call)}
    assert found == {
        ("console", "os.fork"),
        *((name, "signal.signal") for name in ("console", "child", "__main__")),
    }


def test_who_ends_processes() -> None:
    """Only the hook, whose shell waits, and a copy of this process end without their clean-up; signals are passed on."""
    ends = {"os._exit", "os.abort", "os.kill"}
    found = {(name, call) for name in MODULES for call in ends & set(calls(parsed(name)))}
    assert found == {("hook", "os._exit"), ("console", "os._exit"), ("child", "os.kill")}


def test_only_the_faces_speak() -> None:
    """The library reports to a Monitor: nothing prints, asks, or names the standard streams but the faces."""
    speaking = {"print", "input", "breakpoint"}
    streams = {"sys.stdout", "sys.stderr", "sys.stdin"}
    for name in sorted(set(MODULES) - FACES):
        tree = parsed(name)
        named = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not speaking & set(calls(tree)), name
        assert not streams & named, name


def documented(tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """Every module, class and function but private ones and those in functions, with its docstring."""
    yield "the module", ast.get_docstring(tree)
    folders: list[tuple[str, ast.AST]] = [("", tree)]
    while folders:
        above, parent = folders.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                if not node.name.startswith("_"):
                    yield above + node.name, ast.get_docstring(node)
                if isinstance(node, ast.ClassDef):
                    folders.append((f"{above}{node.name}.", node))


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_says_what_it_does(name: str) -> None:
    """Every module, public class, function and method has a docstring."""
    silent = [what for what, docstring in documented(parsed(name)) if not (docstring or "").strip()]
    assert not silent


def test_the_test_of_the_layers_sees_every_form_of_import() -> None:
    """An import counts wherever it stands: at the top, in a function, under TYPE_CHECKING, by either statement."""
    source = "from tensortime import api\ndef f():\n  import tensortime.scan\nif 1:\n  from tensortime.errors import X"
    source += "\nimportlib.import_module('tensortime.packs')"
    assert own_imports(ast.parse(source)) == {"api", "scan", "errors", "packs"}
