"""What the tests of a scan share."""

from collections.abc import Sequence

from builders import Tree

from tensortime.findings import Scan
from tensortime.formats import RelPath
from tensortime.ignoring import Rules
from tensortime.scan import scan


def walk(tree: Tree, *lines: str, follow: Sequence[str] = (), only: Sequence[bytes] | None = None) -> Scan:
    """A scan under the rules of an `ignore` argument."""
    named = None if only is None else [RelPath(path) for path in only]
    return scan(str(tree.root), Rules.start((), lines, str(tree.root)), follow=follow, only=named)


def paths(found: Scan) -> list[bytes]:
    """The files, sorted."""
    return sorted(file.path for file in found.files)


def left_out(found: Scan) -> dict[str, str]:
    """What was left out, and by which rule."""
    return {one.path: one.rule for one in found.ignored}
