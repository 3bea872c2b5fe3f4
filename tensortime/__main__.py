"""`tensortime` and `python -m tensortime`: the verbs typed most often answer before typer is loaded.

Nothing is imported at the top that does not come with Python's start: the shell hook begins here, too.
"""

import os
import sys

from tensortime import __version__


def occupy_standard_streams() -> None:
    """Where stdin, stdout or stderr was closed, no file of the store may get its number: others write to it."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def main() -> None:
    """The entry point of the command."""
    occupy_standard_streams()
    try:
        code = dispatch(sys.argv[1:])
        if sys.stdout is not None:  # it was closed
            sys.stdout.flush()
    except OSError as problem:
        # Nobody reads any more (`--help | head`), or what reads is full.
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stderr.write("" if isinstance(problem, BrokenPipeError) else f"tensortime: {problem}\n")
        except OSError:
            pass  # nor does anybody read this
        code = 0 if isinstance(problem, BrokenPipeError) else 1
    import gc

    gc.freeze()  # a process that ends need not look for cycles: 3 ms of a backup
    sys.exit(code)


def dispatch(arguments: list[str]) -> int:
    """Answer what was typed; returns the exit code."""
    if arguments[:1] == ["hook"] and len(arguments) > 1:
        from tensortime import hook

        if arguments[1] == "--before":
            return hook.before(arguments[2] if len(arguments) > 2 else hook.typed_line())
        if len(arguments) == 2 and arguments[1] in hook.SHELLS:
            return hook.print_script(arguments[1])
    try:
        return answer(arguments)
    except KeyboardInterrupt:
        # While what does the work is loaded. The hook, above, is to end by it, for the shell to see.
        return 130


def answer(arguments: list[str]) -> int:
    """Answer the plain calls at once, hand all others to typer; returns the exit code."""
    if arguments == ["--version"]:
        say(f"tensortime {__version__}")
        return 0
    if arguments in (["--help"], ["-h"]):
        from tensortime.language import translator
        from tensortime.overview import overview

        page = overview(translator())
        if sys.stdout is not None and sys.stdout.isatty():
            from tensortime import pager

            if pager.show(page.split("\n"), sys.stdout, sys.stdin):
                return 0
        say(page)
        return 0
    if not arguments:
        from tensortime import commands

        return commands.welcome(commands.Common())
    if arguments[:1] == ["completion"] and len(arguments) > 1:
        from tensortime import completion

        if arguments[1] == "--words":
            return completion.answer_words(arguments[2:])
        if len(arguments) == 2 and arguments[1] in completion.SHELLS:
            return completion.answer(arguments[1])
    heed_children()
    from tensortime import shortcuts

    code = shortcuts.answer(arguments)
    if code is not None:
        return code
    from tensortime import cli

    return cli.run(arguments)


def heed_children() -> None:
    """Have the exit codes of children, also where whoever started us ignores SIGCHLD, which is inherited."""
    import signal

    number = getattr(signal, "SIGCHLD", None)  # Windows has none
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


def say(text: str) -> None:
    """One text on stdout, whatever its encoding; nobody listens where it was closed."""
    if sys.stdout is not None:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


if __name__ == "__main__":
    main()
