"""What a disk may hold after a power loss, out of the system calls of a command that was just running.

The model is that of Pillai and others, "All File Systems Are Not Created Equal" (OSDI 2014), where the tool is called
ALICE: a file system promises nothing but what was synced.

* The bytes of a file are there once an fsync, fdatasync or syncfs that began after they were written has ended. Until
  then the file may be empty, cut short, or as long as it should be and full of zeros.
* A change of names (create, link, rename, remove, of files or folders) is there once the folder was synced that has the
  new name, or lost the old. Until then it may be there or not, each by itself and in any order: real file systems are
  kinder. A rename is never half done.
* What nothing leads to any more, as the folder above was lost, is gone.

A disk that breaks its word about a sync is not in it.
"""

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from traces import Call, Trace

from tensortime.packs import PACK_HEADER

NEVER = 1 << 60
EMPTY, SHORT, ZEROS, WHOLE = "empty", "cut short", "zeros", "whole"
HARM = (EMPTY, SHORT, ZEROS, WHOLE)
"""What may become of bytes that were not synced."""


@dataclass(eq=False)
class Node:
    """A file, a folder or a link: what names lead to."""

    is_folder: bool
    names: dict[bytes, "Node"] = field(default_factory=dict)
    """Of a folder: what it holds while the command runs."""
    before: dict[bytes, "Node"] = field(default_factory=dict)
    """Of a folder: what it held at first."""
    content: bytes = b""
    target: bytes | None = None
    written: list[int] = field(default_factory=list)
    """The lines at which bytes of it were written, or cut off."""
    synced: list[tuple[int, int]] = field(default_factory=list)
    """The lines at which each sync of it began and ended."""
    pieces: list[bytes] = field(default_factory=list)

    def is_on_disk(self, line: int) -> bool:
        """Whether its bytes were synced by then."""
        last = max((at for at in self.written if at <= line), default=-1)
        return last < 0 or any(last < begun and ended <= line for begun, ended in self.synced)


class Change(NamedTuple):
    """A change of names that is made whole or not at all."""

    line: int
    rows: Sequence[tuple[Node, bytes, Node | None]]
    """Folder, name, and what the name leads to from then on."""


Harmed = tuple[bytes, Node, str]
"""A path, what it leads to, and what became of its bytes."""


class State(NamedTuple):
    """What is on the disk when the power comes back."""

    line: int
    """The moment of the power loss: how far the command had come."""
    files: tuple[Harmed, ...]

    def write(self, place: Path) -> None:
        """Make this disk a folder that must not be there yet."""
        for path, node, harm in self.files:
            full = os.path.join(os.fsencode(place), path)
            if node.is_folder:
                os.mkdir(full)
            elif node.target is not None:
                os.symlink(node.target, full)
            else:
                with open(full, "wb") as file:
                    file.write(harmed(node.content, harm))


def harmed(content: bytes, how: str) -> bytes:
    """Bytes of which not all were synced."""
    kept = {EMPTY: b"", SHORT: content[: len(content) // 2], ZEROS: bytes(len(content)), WHOLE: content}
    return kept[how]


class Disk:
    """A folder before a command, and what the command did to it; `after`: where the outcome lies."""

    def __init__(self, before: Path, trace: Trace, after: Path) -> None:
        self.top, self.nodes, self.changes = os.fsencode(after), list[Node](), list[Change]()
        self.root = self.read(os.fsencode(before))
        self.whole_syncs: list[tuple[int, int]] = []
        self.end = max((call.left for call in trace.calls), default=0)
        self.moments = [0]
        said = (
            c
            for c in trace.calls
            if c.tracee == trace.main and c.name == "write" and c.words[0].startswith("1<")
        )
        self.told = next((call.entered for call in said), NEVER)
        """The line at which the command said that it had ended."""
        for call in trace.changing():
            if not call.failed:
                self.take(call)
                self.moments.append(call.left)
        self.moments.append(self.end)
        self.read_contents(self.root, self.top)

    def read(self, path: bytes) -> Node:
        """What lies at a path, all of it on the disk."""
        if os.path.islink(path):
            node = Node(False, target=os.readlink(path))
        elif os.path.isdir(path):
            node = Node(True, {name: self.read(os.path.join(path, name)) for name in os.listdir(path)})
            node.before = dict(node.names)
        else:
            with open(path, "rb") as file:
                node = Node(False, content=file.read())
        self.nodes.append(node)
        return node

    def read_contents(self, node: Node, path: bytes) -> None:
        """The bytes of what is there in the end; of what is gone by then, those that were written one by one."""
        for one in self.nodes:
            if one.written:
                one.content = b"".join(one.pieces)
        stack = [(node, path)]
        while stack:
            folder, at = stack.pop()
            for name, one in folder.names.items():
                full = os.path.join(at, name)
                if one.is_folder:
                    stack.append((one, full))
                elif one.written and one.target is None:
                    with open(full, "rb") as file:
                        one.content = file.read()

    def find(self, path: bytes) -> Node | None:
        """What a path leads to now; None for what lies elsewhere or is not there."""
        if path != self.top and not path.startswith(self.top + b"/"):
            return None
        node: Node | None = self.root
        for part in path[len(self.top) + 1 :].split(b"/") if path != self.top else ():
            node = None if node is None else node.names.get(part)
        return node

    def change(self, call: Call, *rows: tuple[bytes, Node | None]) -> None:
        """Let paths lead to other nodes."""
        done = []
        for path, node in rows:
            folder, name = self.find(os.path.dirname(path)), os.path.basename(path)
            if folder is None:
                continue
            if node is None:
                folder.names.pop(name, None)
            else:
                folder.names[name] = node
            done.append((folder, name, node))
        self.changes.append(Change(call.left, done))

    def make(self, call: Call, path: bytes, *, is_folder: bool = False, target: bytes | None = None) -> None:
        """A new node at a path."""
        node = Node(is_folder, target=target)
        self.nodes.append(node)
        self.change(call, (path, node))

    def take(self, call: Call) -> None:
        """Note what one call did."""
        name = call.name
        if name in ("syncfs", "sync"):
            self.whole_syncs.append((call.entered, call.left))
        elif name in ("fsync", "fdatasync"):
            node = self.find(call.opened(0))
            if node is not None:
                node.synced.append((call.entered, call.left))
        elif name in ("write", "pwrite64", "ftruncate", "fallocate", "copy_file_range", "ioctl"):
            node = self.find(call.opened(2 if name == "copy_file_range" else 0))
            if node is not None:
                node.written.append(call.left)
                piece = call.text(1) if name in ("write", "pwrite64") else b""
                if node.pieces and piece.startswith(b"PACK") and len(piece) == PACK_HEADER.size:
                    # How many objects are in a pack is written last, over its beginning.
                    node.pieces[0] = piece + node.pieces[0][len(piece) :]
                else:
                    node.pieces.append(piece)
        elif name == "openat":
            path = call.at(0, 1)
            node = self.find(path)
            if node is None:
                self.make(call, path)
            elif "O_TRUNC" in call.words[2]:
                node.written.append(call.left)
                node.pieces.clear()
        else:
            self.take_names(call)

    def take_names(self, call: Call) -> None:
        """Note what one call did to names."""
        name = call.name
        behind = name.endswith("at") or name == "renameat2"  # a descriptor stands before each path
        paths = [call.at(0, 1)] if behind else [os.path.normpath(call.text(0))]
        if name in ("rename", "renameat", "renameat2", "link", "linkat"):
            source, target = paths[0], call.at(2, 3) if behind else os.path.normpath(call.text(1))
            gone = ((source, None),) if name.startswith("rename") else ()
            node = self.find(source)
            if node is not None:
                self.change(call, (target, node), *gone)
            elif self.find(target) is not None:
                self.change(call, (target, None))  # over it came something from elsewhere: as if it were gone
        elif name in ("symlink", "symlinkat"):
            place = call.at(1, 2) if behind else os.path.normpath(call.text(1))
            self.make(call, place, target=call.text(0))
        elif name in ("mkdir", "mkdirat"):
            self.make(call, paths[0], is_folder=True)
        elif name in ("unlink", "unlinkat", "rmdir"):
            self.change(call, (paths[0], None))

    def is_on_disk(self, change: Change, line: int) -> bool:
        """Whether a change of names was synced by then: the folder that has the new name, or that lost the old."""
        news = [folder for folder, _, node in change.rows if node is not None]
        syncs = [one for folder in news or [row[0] for row in change.rows] for one in folder.synced]
        return any(change.line < begun and ended <= line for begun, ended in (*syncs, *self.whole_syncs))

    def state(self, line: int, kept: set[int], harms: Mapping[Node, str]) -> State:
        """The disk where, of what was not synced, only these changes and bytes were there."""
        names = {id(node): dict(node.before) for node in self.nodes if node.is_folder}
        for number, change in enumerate(self.changes):
            if number in kept:
                for folder, name, node in change.rows:
                    if node is None:
                        names[id(folder)].pop(name, None)
                    else:
                        names[id(folder)][name] = node
        files: list[Harmed] = []
        stack, seen = [(b"", self.root)], set[int]()
        while stack:
            path, folder = stack.pop()
            seen.add(id(folder))
            files.append((path, folder, WHOLE))
            for name, node in sorted(names[id(folder)].items()):
                full = os.path.join(path, name)
                if not node.is_folder:
                    files.append((full, node, harms.get(node, WHOLE)))
                elif id(node) not in seen:
                    stack.append((full, node))
        return State(line, tuple(files))

    def states(self, chance: random.Random, variants: int) -> Iterator[State]:
        """States of every moment: nothing of what was not synced, all names without bytes, and some by chance."""
        known = set()
        for line in self.moments:
            done = {number for number, change in enumerate(self.changes) if change.line <= line}
            sure = {number for number in done if self.is_on_disk(self.changes[number], line)}
            dirty = [one for one in self.nodes if one.written and not self.clean(one, line)]
            open_ = sorted(done - sure)
            choices = [(set[int](), EMPTY), (set(open_), EMPTY), (set(open_), ZEROS), (set(open_), WHOLE)]
            for number in range(variants):
                cut = chance.randrange(len(open_) + 1)
                some = {one for one in open_ if chance.random() < 0.5} if number % 3 else set(open_[:cut])
                choices.append((some, ""))
            for some, how in choices:
                harms = {one: how or chance.choice(HARM) for one in dirty}
                state = self.state(line, sure | some, harms)
                key = (line >= self.told, state.files)
                if key not in known:
                    known.add(key)
                    yield state

    def clean(self, node: Node, line: int) -> bool:
        """Whether all bytes that were written by then are on the disk."""
        last = max((at for at in node.written if at <= line), default=-1)
        return node.is_on_disk(line) or any(
            last < begun and ended <= line for begun, ended in self.whole_syncs
        )
