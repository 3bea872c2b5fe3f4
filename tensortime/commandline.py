"""What a person typed into a shell: which of its commands trains, and in which folder. Pure.

No shell is imitated: the line is cut into words and operators, and what the text alone does not tell (a folder in a
variable, a quote that is never closed) is no training command: better no backup than a wrong one. Imports nothing:
the shell waits for it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

REDIRECTIONS = ("&>>", "<<<", "<<-", "&>", "<<", ">>", "<&", ">&", "<>", ">|", "<", ">")
OPERATORS = ("&&", "||", ";;", "|&", ";", "|", "&", "\n", "(", ")")
ENDS_WORD = " \t\n;&|()<>"

KEYWORDS = {
    *(
        "!",
        "and",
        "begin",
        "builtin",
        "command",
        "do",
        "elif",
        "else",
        "if",
        "nocorrect",
        "noglob",
        "not",
        "or",
    ),
    *("then", "until", "while", "{"),
}
"""What may stand before a command in bash, zsh or fish."""

WRAPPERS = {
    *(
        "caffeinate",
        "chrt",
        "doas",
        "env",
        "exec",
        "horovodrun",
        "ionice",
        "mpiexec",
        "mpirun",
        "nice",
        "nohup",
    ),
    *(
        "nsys",
        "numactl",
        "perf",
        "setsid",
        "srun",
        "stdbuf",
        "strace",
        "sudo",
        "systemd-run",
        "taskset",
        "time",
    ),
    *("timeout", "unbuffer", "xvfb-run"),
}
"""Programs that run the command among their arguments: it begins with the first word that names Python."""

MANAGERS = {
    *("conda", "hatch", "mamba", "micromamba", "pdm", "pipenv", "pixi", "poetry", "rye", "uv"),
}
"""As WRAPPERS, behind the word `run`."""

PYTHONS = ("python", "ipython", "pypy")
LAUNCHERS = {"deepspeed", "torchrun"}
LAUNCHING_MODULES = {
    *("accelerate.commands.launch", "deepspeed.launcher.launch", "torch.distributed.launch"),
    *("torch.distributed.run", "cProfile", "pdb", "profile", "runpy", "trace"),
}
"""Run with `python -m`: they run the script or module among their arguments."""

TOOLS = {
    *(
        "IPython",
        "accelerate",
        "black",
        "build",
        "coverage",
        "debugpy",
        "flake8",
        "ipykernel",
        "isort",
        "jupyter",
    ),
    *("jupyterlab", "mkdocs", "mypy", "nbconvert", "notebook", "nox", "pip", "pipx", "piptools", "poetry"),
    *(
        "pre_commit",
        "pylint",
        "pyright",
        "pytest",
        "ruff",
        "sphinx",
        "streamlit",
        "tensorboard",
        "tensortime",
    ),
    *("tox", "twine", "uv", "uvicorn", "virtualenv", "wheel", "yapf"),
}
"""Modules that are run with `python -m` and never train; Python's own do not either."""

CHORES = {"conftest.py", "manage.py", "setup.py"}


class Typed:
    """A command that trains."""

    def __init__(self, folder: str, words: "tuple[str, ...]", script: str) -> None:
        self.folder = folder
        self.words = words
        """As the shell splits them, variables as typed."""
        self.script = script
        """The path of the script, as typed; empty where a module is run."""


def training_command(
    line: str, folder: str, environ: "Mapping[str, str]", own_modules: "Collection[str]" = ()
) -> Typed | None:
    """The first command of a line that trains, and the folder it runs in; None if there is none.

    `folder`: where the line was typed; `own_modules`: Python's own, sys.stdlib_module_names.
    """
    folders: list[str | None] = [folder]
    try:
        for command in commands_of(line):
            if command == ["("]:
                folders.append(folders[-1])
            elif command == [")"]:
                folders = folders[:-1] or folders  # the pattern of a `case` closes what nothing opened
            else:
                words = without_keywords(command)
                program = without_assignments(words)
                if is_switched_off(words):
                    continue
                if program and program[0] in ("cd", "pushd"):
                    folders[-1] = changed_folder(folders[-1], program[1:], environ)
                    continue
                script, here = script_of(program, own_modules), folders[-1]
                if script is not None and here is not None:
                    return Typed(here, tuple(words), script)
    except ValueError:
        return None
    return None


def is_switched_off(words: list[str]) -> bool:
    """Whether a command is given, in front or by `env`, that nothing is to be backed up, or which experiment it joins."""
    return any(word.startswith(("TENSORTIME=", "TENSORTIME_EXPERIMENT=")) for word in words)


def without_keywords(words: list[str]) -> list[str]:
    """A command without `do`, `then`, `!` and their like in front."""
    at = 0
    while at < len(words) and words[at] in KEYWORDS:
        at += 1
    return words[at:]


def without_assignments(words: list[str]) -> list[str]:
    """A command without `NAME=value` in front."""
    at = 0
    while at < len(words) and words[at].partition("=")[0].isidentifier() and "=" in words[at]:
        at += 1
    return words[at:]


def changed_folder(here: str | None, arguments: list[str], environ: "Mapping[str, str]") -> str | None:
    """Where `cd` with these arguments leads; None where that cannot be told."""
    named = [word for word in arguments if word == "-" or not word.startswith("-")]
    target = named[0] if named else "~"
    if target == "-":
        target = environ.get("OLDPWD", "$")
    for name in ("~", "$HOME", "${HOME}"):
        if target == name or target.startswith(name + "/"):
            target = environ.get("HOME", "$") + target.removeprefix(name)
            break
    if len(named) > 1 or any(char in target for char in "$`*?[{~"):
        return None
    return target if target.startswith("/") else here and f"{here.rstrip('/')}/{target}"


def script_of(program: list[str], own_modules: "Collection[str]") -> str | None:
    """The script that a command trains with, "" for a module; None where it does not train."""
    name = program[0].rpartition("/")[2] if program else ""
    arguments = program[1:]
    if is_python(name):
        return script_of_python(arguments, own_modules)
    if name in LAUNCHERS or (name == "accelerate" and arguments[:1] == ["launch"]):
        return launched(arguments)
    if name in MANAGERS and "run" in arguments:
        arguments = arguments[arguments.index("run") + 1 :]
    elif name not in WRAPPERS:
        return program[0] if name.endswith(".py") and "/" in program[0] else None
    for at, word in enumerate(arguments):
        if word.rpartition("/")[2] == "tensortime":
            return None  # `tensortime run` backs up by itself
        if starts_training(word, arguments[at + 1 : at + 2]) or word in MANAGERS:
            return script_of(arguments[at:], own_modules)
        if name == "uv" and word.endswith(".py"):
            return word  # `uv run train.py`
    return None


def is_python(name: str) -> bool:
    """Whether a program's name is Python's: `python`, `python3.12`, `python3.13t`, `ipython`, `pypy3`."""
    return any(name.startswith(one) and not name[len(one) :].strip("0123456789.t") for one in PYTHONS)


def starts_training(word: str, following: list[str]) -> bool:
    """Whether a wrapped command begins here."""
    name = word.rpartition("/")[2]
    return is_python(name) or name in LAUNCHERS or (name == "accelerate" and following == ["launch"])


def script_of_python(arguments: list[str], own_modules: "Collection[str]") -> str | None:
    """The script that Python is called with, "" for a module; None where it runs neither or it does not train."""
    rest = iter(range(len(arguments)))
    for at in rest:
        word = arguments[at]
        if not word.startswith("-"):
            return None if word.rpartition("/")[2] in CHORES else word
        if word == "-" or (word.startswith("--") and word != "--check-hash-based-pycs"):
            return None
        for place, letter in enumerate(word[1:], 2):
            if letter in "cVh?":
                return None
            if letter == "m":
                module, *others = (
                    [word[place:], *arguments[at + 1 :]] if word[place:] else arguments[at + 1 :]
                )
                return script_of_module(module, others, own_modules)
            if letter in "WX-":
                if not word[place:] or letter == "-":
                    next(rest, None)
                break
    return None


def script_of_module(module: str, arguments: list[str], own_modules: "Collection[str]") -> str | None:
    """As `script_of_python`, for `python -m module`."""
    if module in LAUNCHING_MODULES:
        return launched(arguments)
    top = module.partition(".")[0]
    return (
        None if not module or top in TOOLS or top in own_modules or module.startswith("torch.utils") else ""
    )


def launched(arguments: list[str]) -> str | None:
    """The script that a launcher starts, "" for a module; None where it starts nothing."""
    for word in arguments:
        if word in ("-h", "--help", "--version"):
            return None
        if word in ("-m", "--module"):
            return ""
        if word.endswith(".py"):
            return word
    return None


def commands_of(line: str) -> "Iterator[list[str]]":
    """The words of each command, without redirections; `(` and `)` come as commands of their own. ValueError."""
    words: list[str] = []
    at, is_target = 0, False
    while at < len(line):
        if line[at] in " \t" or line.startswith("\\\n", at):
            at += 1 if line[at] in " \t" else 2
        elif line[at] == "#":
            at = end_of_line(line, at)
        elif redirection := beginning(line, at, REDIRECTIONS):
            if redirection in ("<<", "<<-"):
                line = line[: end_of_line(line, at)]  # what follows is a text, not commands
            at += len(redirection)
            is_target = not line.startswith("(", at)
            at = at if is_target else end_of_nested(line, at)
        elif operator := beginning(line, at, OPERATORS):
            if words[:1] == ["function"] or (operator == "(" and len(words) == 1):
                raise ValueError("a function is defined, nothing is run")
            if words:
                yield words
            words, at = [], at + len(operator)
            if operator in "()":
                yield [operator]
        else:
            word, end = read_word(line, at)
            if not (word.isdecimal() and line[end : end + 1] in ("<", ">")) and not is_target:
                words.append(word)
            at, is_target = end, False
    if words:
        yield words


def beginning(line: str, at: int, texts: "tuple[str, ...]") -> str:
    """The first of some texts that a line goes on with; empty if none."""
    return next((text for text in texts if line.startswith(text, at)), "")


def end_of_line(line: str, at: int) -> int:
    """Where this line of several ends."""
    end = line.find("\n", at)
    return len(line) if end < 0 else end


def read_word(line: str, at: int) -> "tuple[str, int]":
    """One word without its quotes, and where it ends; what only the shell can tell stays as typed. ValueError."""
    parts: list[str] = []
    while at < len(line) and line[at] not in ENDS_WORD:
        start, char = at, line[at]
        if char == "\\":
            parts.append(line[at + 1 : at + 2].replace("\n", ""))
            at += 2
        elif char == "'":
            at = line.index("'", at + 1) + 1
            parts.append(line[start + 1 : at - 1])
        elif char == '"':
            text, at = read_quoted(line, at + 1)
            parts.append(text)
        elif char == "`" or line.startswith(("$(", "${"), at):
            at = end_of_nested(line, at)
            parts.append(line[start:at])
        else:
            parts.append(char)
            at += 1
    return "".join(parts), at


def read_quoted(line: str, at: int) -> "tuple[str, int]":
    """What stands between double quotes, and where it ends, behind the closing one. ValueError."""
    parts: list[str] = []
    while line[at : at + 1] != '"':
        start = at
        if at >= len(line):
            raise ValueError("a quote is never closed")
        if line[at] == "\\" and line[at + 1 : at + 2] in tuple('"\\$`\n'):
            parts.append(line[at + 1].replace("\n", ""))
            at += 2
        elif line[at] == "`" or line.startswith(("$(", "${"), at):
            at = end_of_nested(line, at)
            parts.append(line[start:at])
        else:
            parts.append(line[at])
            at += 1
    return "".join(parts), at + 1


def end_of_nested(line: str, at: int) -> int:
    """Where `$(…)`, `${…}`, `<(…)` or the backticks that begin here end. ValueError."""
    if line[at] == "`":
        return line.index("`", at + 1) + 1
    opening = line[at + 1] if line[at] == "$" else line[at]
    closing, depth = {"(": ")", "{": "}"}[opening], 0
    for place in range(at, len(line)):
        depth += (line[place] == opening) - (line[place] == closing)
        if depth == 0 and line[place] == closing:
            return place + 1
    raise ValueError("a bracket is never closed")
