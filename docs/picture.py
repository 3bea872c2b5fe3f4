"""Run a short session on a terminal of its own and draw it: `make picture` writes docs/session*.svg.

The session is a real one, the training in examples/digits with a change between two runs. What the terminal gets is
drawn as it came, colours included; only the folder it ran in is called /home/lin. The pictures refer to nothing
outside themselves, and carry their own background, for pages that are light and for pages that are dark.
"""

import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import termios
import unicodedata
from dataclasses import dataclass
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent
EXAMPLE = DOCS.parent / "examples/digits"
SHOWN_HOME = "/home/lin"
COLUMNS, ROWS = 100, 60

PREPARED = "python make_data.py"
"""Runs before the picture begins."""

SESSION = (
    "python train.py --lr 0.001",
    "perl -pi -e 's/relu/tanh/' train.py",
    "python train.py --lr 0.01 --epochs 3",
    "tensortime log",
    "tensortime diff lr0.001 @",
    "tensortime restore lr0.001",
)
PICTURES = {"en": "session.svg", "zh": "session.zh-CN.svg"}

CELL, LINE, SIZE, WIDE_SIZE, BASE = 8.4, 19, 14, 16, 14
"""Pixels: width of a column, height of a line, of letters, of letters two columns wide, and how far down they stand."""
LEFT, TOP = 20, 48

BACKGROUND, FRAME, TEXT, PROMPT = "#1b1f27", "#3a414e", "#d5dae3", "#7fb4f0"
COLOURS = {31: "#f08a86", 32: "#8fcf8a", 33: "#e3c374", 34: "#7fb4f0", 35: "#cf9be8", 36: "#78cdd1"}
LIGHTS = ("#ef6a60", "#e9b84c", "#63bf57")
FONTS = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"

ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")
PIECES = re.compile(r"[\u1100-\uffef]+|(?:(?! {2})[^\u1100-\uffef])+|  +")
"""What is put at a place of its own: wide characters, words with single blanks between them, gaps."""


@dataclass(frozen=True)
class Style:
    """How letters look."""

    colour: str = TEXT
    bold: bool = False
    dim: bool = False

    def after(self, codes: str) -> "Style":
        """This style, changed by the numbers of one escape code."""
        style = self
        for code in (int(number or 0) for number in codes.split(";")):
            if code == 0:
                style = Style()
            elif code == 1:
                style = Style(style.colour, True, style.dim)
            elif code == 2:
                style = Style(style.colour, style.bold, True)
            elif code in COLOURS:
                style = Style(COLOURS[code], style.bold, style.dim)
            elif code - 60 in COLOURS:
                style = Style(COLOURS[code - 60], style.bold, style.dim)
        return style


def main() -> None:
    """Draw one picture for each language."""
    for language, name in PICTURES.items():
        with tempfile.TemporaryDirectory(prefix="tensortime-picture-") as base:
            text = play(Path(base).resolve(), language)
        (DOCS / name).write_text(draw(text), encoding="utf-8")
        sys.stdout.write(f"docs/{name}\n")


def play(base: Path, language: str) -> str:
    """What a terminal shows of the session, with escape codes; it runs in a new project under `base`."""
    project = base / "digits"
    project.mkdir()
    for name in ("train.py", "make_data.py", ".ttignore"):
        shutil.copy(EXAMPLE / name, project)
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("TENSORTIME", "NO_COLOR"))
    }
    variables = {
        **own,
        "HOME": str(base),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "TERM": "xterm-256color",
        "PAGER": "cat",
        "LANG": "C.UTF-8",
        "TENSORTIME_LANG": language,
    }
    on_terminal(PREPARED, project, variables)
    shown = [
        f"\x1b[34m$\x1b[0m \x1b[1m{line}\x1b[0m\n{on_terminal(line, project, variables)}" for line in SESSION
    ]
    return "\n".join(shown).replace(str(base), SHOWN_HOME)


def on_terminal(line: str, folder: Path, variables: dict[str, str]) -> str:
    """Run one line of bash with a terminal as its stdin, stdout and stderr; all that it wrote there."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (ROWS, COLUMNS))
    process = subprocess.Popen(
        ["setsid", "--ctty", "bash", "-c", line],
        cwd=folder,
        env=variables,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    try:
        while block := os.read(ours, 1 << 16):
            written += block
    except OSError:
        pass  # how Linux says that nobody is at the other end any more
    os.close(ours)
    if process.wait():
        raise SystemExit(f"{line}: exit code {process.returncode}\n{written.decode()}")
    return written.decode().replace("\r\n", "\n")


def draw(text: str) -> str:
    """A window with this text as SVG."""
    lines = text.rstrip("\n").split("\n")
    width = round(2 * LEFT + max(cells(ESCAPE.sub("", line)) for line in lines) * CELL)
    height = TOP + len(lines) * LINE + LEFT - 4
    lights = "".join(
        f'<circle cx="{LEFT + 4 + 20 * index}" cy="20" r="6" fill="{colour}"/>'
        for index, colour in enumerate(LIGHTS)
    )
    body = "\n".join(piece for row, line in enumerate(lines) for piece in draw_line(line, TOP + row * LINE))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">
<title>TensorTime in a terminal: two runs of a training, log, diff, restore</title>
<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="10" fill="{BACKGROUND}" stroke="{FRAME}"/>
{lights}
<g font-family="{FONTS}" font-size="{SIZE}">
{body}
</g>
</svg>
"""


def draw_line(line: str, top: int) -> list[str]:
    """One line of the terminal as `<text>` elements, each at the place of its column."""
    drawn, column, style = [], 0, Style()
    parts = ESCAPE.split(line)
    for index, part in enumerate(parts):
        if index % 2:
            style = style.after(part)
            continue
        for piece in PIECES.findall(part):
            if piece.strip():
                drawn.append(draw_piece(piece, LEFT + column * CELL, top + BASE, style))
            column += cells(piece)
    return drawn


def draw_piece(piece: str, x: float, y: int, style: Style) -> str:
    """Some letters at a place; `textLength` keeps them in their columns whatever font is there."""
    blanks = len(piece) - len(piece.lstrip(" "))
    letters = piece.strip(" ")
    look = f' fill="{style.colour}"'
    look += ' font-weight="bold"' if style.bold else ""
    look += ' opacity="0.65"' if style.dim else ""
    look += f' font-size="{WIDE_SIZE}"' if cells(letters) > len(letters) else ""
    length = cells(letters) * CELL
    return (
        f'<text x="{x + blanks * CELL:.1f}" y="{y}" textLength="{length:.1f}"{look}>'
        f"{escape(letters, quote=False)}</text>"
    )


def cells(text: str) -> int:
    """The columns that a terminal gives to a text."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


if __name__ == "__main__":
    main()
