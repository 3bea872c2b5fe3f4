"""The names of a store whose list of refs is damaged: the lines that are whole stay, and what lost its name gets one.

Bytes that no ref leads to are what gc frees. So every backup whose line was lost becomes an experiment `found-…` again.
"""

import re

from tensortime import fsops
from tensortime.formats import Oid
from tensortime.history import EXPERIMENTS
from tensortime.shadow import message_of
from tensortime.store import Store
from tensortime.trailers import decode_message

LINE = re.compile(rb"[0-9a-f]{40} refs/(?!.*(?:\.\.|//))[^\0-\x20\x7f~^:?*\[\\]+")
ASIDE = re.compile(rb"#.*|\^[0-9a-f]{40}")
"""The header, and what an annotated tag of a person leads to."""


def packed_refs(store: Store) -> str:
    """The file that lists the refs which have none of their own."""
    return store.path(".shadow", "packed-refs")


def whole_lines(path: str) -> tuple[list[bytes], bool]:
    """The refs that the list still says, and whether it says anything else."""
    try:
        data = fsops.read_file(path, 1 << 28)
    except FileNotFoundError:
        return [], False
    except OSError:
        return [], True
    *lines, rest = data.split(b"\n")
    refs = [line for line in lines if LINE.fullmatch(line)]
    others = [line for line in lines if not LINE.fullmatch(line) and not ASIDE.fullmatch(line)]
    return refs, bool(others or rest)


def write_refs(store: Store, refs: list[bytes]) -> None:
    """Write the list anew. Without a header git expects no order."""
    fsops.write_atomic(packed_refs(store), b"".join(line + b"\n" for line in refs))


def name_the_lost(store: Store) -> list[str]:
    """Make an experiment of every backup that no ref leads to, the last of its line; returns their names."""
    shadow = store.shadow
    reached = set(shadow.run("rev-list", "--all", "--ignore-missing").stdout.decode().split())
    lost = [oid.hex() for oid in shadow.object_list().commits if oid.hex() not in reached]
    backups: list[str] = []
    older: set[str] = set()
    for oid, raw in shadow.read_objects(lost, missing_ok=True):
        older.update(
            re.findall(r"(?m)^parent ([0-9a-f]{40})$", raw.partition(b"\n\n")[0].decode("ascii", "replace"))
        )
        try:
            decode_message(message_of(raw))
        except ValueError:
            continue
        backups.append(oid)
    names = []
    for oid in backups:
        if oid not in older and shadow.create_ref(f"{EXPERIMENTS}found-{oid[:12]}", Oid(oid)):
            names.append(f"found-{oid[:12]}")
    return names
