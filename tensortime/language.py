"""Whose language: what has to be known before a verb, its help or an error can say anything. Reads only."""

import contextlib
import os

from tensortime.config import load_config, read_language
from tensortime.errors import TensorTimeError
from tensortime.messages import Translator, choose_language
from tensortime.project import Place, find_place


def place_around(start: str, store: str | os.PathLike[str] | None) -> Place:
    """The project and store of a folder, as the paths and the configuration tell."""
    asked = os.fspath(store) if store is not None else os.environ.get("TENSORTIME_STORE") or None
    return find_place(start, asked, lambda folder: load_config(folder).backup_dir)


def translator(
    directory: str | os.PathLike[str] | None = None, store: str | os.PathLike[str] | None = None
) -> Translator:
    """The language for the person who works around a folder. What is wrong there is for others to say."""
    configured = None
    with contextlib.suppress(OSError):
        start = os.path.realpath(directory or os.getcwd())
        try:
            project = place_around(start, store).project
        except TensorTimeError:
            project = start
        configured = read_language(project)
    return Translator(choose_language(os.environ, configured))
