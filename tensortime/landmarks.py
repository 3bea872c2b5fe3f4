"""By what a store is known before it is opened: what says which project, and which language, needs no more."""

import os

DEFAULT_STORE = "tensortime"


def is_store(folder: str) -> bool:
    """Whether a folder looks like a finished store."""
    return os.path.isfile(os.path.join(folder, ".shadow", "config"))
