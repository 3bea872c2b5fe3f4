"""Lines that differ: hunks can be applied, mirror each other, look as git's do, and never take long."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from builders import clean_environment
from hypothesis import given
from hypothesis import strategies as st

from tensortime.differences import Hunk
from tensortime.hunks import NO_NEWLINE, Change, changes_between, count_lines, hunks_of, is_binary, lines_of

WORDS = [b"a", b"b", b"", b"  x = 1", b"\xff", b"\r"]
TEXTS = st.tuples(st.lists(st.sampled_from(WORDS), max_size=30), st.booleans()).map(
    lambda made: b"".join(line + b"\n" for line in made[0]) + (b"end" if made[1] else b"")
)


def between(old: bytes, new: bytes) -> list[Change]:
    """The changes, which must be found."""
    found = changes_between(lines_of(old), lines_of(new))
    assert found is not None
    return found


def hunks(old: bytes, new: bytes) -> tuple[Hunk, ...]:
    """The hunks."""
    return hunks_of(lines_of(old), lines_of(new), between(old, new))


def patch_text(found: Sequence[Hunk]) -> bytes:
    """The hunks as a file for `git apply`."""
    lines = [b"--- a/x\n+++ b/x\n"]
    for one in found:
        lines.append(b"@@ -%d,%d +%d,%d @@\n" % (one.old_start, one.old_lines, one.new_start, one.new_lines))
        lines += [line.encode("utf-8", "surrogateescape") + b"\n" for line in one.lines]
    return b"".join(lines)


@given(TEXTS, TEXTS)
def test_changes_lead_from_one_text_to_the_other(old: bytes, new: bytes) -> None:
    """What is between the changes is equal, and with them the old text becomes the new one."""
    left, right = lines_of(old), lines_of(new)
    built, at = list[bytes](), 0
    for i1, i2, j1, j2 in between(old, new):
        assert at <= i1 <= i2
        built += left[at:i1] + right[j1:j2]
        at = i2
    assert built + left[at:] == right


@given(TEXTS, TEXTS)
def test_both_ways_mirror_each_other(old: bytes, new: bytes) -> None:
    """From new to old the same lines differ, the other way round."""
    assert between(new, old) == [(j1, j2, i1, i2) for i1, i2, j1, j2 in between(old, new)]
    for there, back in zip(hunks(old, new), hunks(new, old), strict=True):
        assert sorted(there.lines) == sorted(
            line.translate(str.maketrans("+-", "-+", "")) if line[0] in "+-" else line for line in back.lines
        )


@given(TEXTS)
def test_a_text_does_not_differ_from_itself(text: bytes) -> None:
    """No changes, no hunks."""
    assert between(text, text) == []
    assert hunks(text, text) == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"1\n2\n3\n4\n5\n6\n7\n8\n9\n", b"1\n2\n3\n4\nfive\n6\n7\n8\n9\n"),
        (b"", b"1\n2\n"),
        (b"1\n2\n", b""),
        (b"1\n2", b"1\n2\n"),
        (b"1\n2\n", b"1\n2"),
        (b"a", b"b"),
        (
            b"".join(b"%d\n" % n for n in range(40)),
            b"".join(b"%d\n" % n for n in range(40) if n not in (3, 30)),
        ),
        (b"x\r\ny\n", b"x\ny\n"),
        (b"\xff\xfe\n", b"\xff\n"),
    ],
)
def test_git_can_apply_the_hunks(tmp_path: Path, old: bytes, new: bytes) -> None:
    """The hunks are a patch as git reads it: positions, counts and the mark for a missing newline."""
    (tmp_path / "x").write_bytes(old)
    environment = {**clean_environment(), "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "-p1", "-"],
        cwd=tmp_path,
        input=patch_text(hunks(old, new)),
        env=environment,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x").read_bytes() == new


def test_lines_near_each_other_are_one_hunk() -> None:
    """Three lines around each change; where these touch, one hunk holds both."""
    old = [b"%d\n" % number for number in range(30)]
    near, far = [*old], [*old]
    for number in (10, 17):
        near[number] = b"x\n"
    for number in (10, 18):
        far[number] = b"x\n"
    assert [one.old_lines for one in hunks(b"".join(old), b"".join(near))] == [14]
    assert [one.old_lines for one in hunks(b"".join(old), b"".join(far))] == [7, 7]


def test_a_missing_newline_is_marked() -> None:
    """As git does, below the line that lacks it."""
    (one,) = hunks(b"a", b"b\n")
    assert one.lines == ("-a", NO_NEWLINE, "+b")


def test_counts() -> None:
    """Lines added, lines removed."""
    assert count_lines(between(b"1\n2\n3\n", b"1\n3\n4\n5\n")) == (2, 1)


def test_gits_rule_for_what_is_no_text() -> None:
    """A NUL among the first 8000 bytes."""
    assert is_binary(b"a" * 7999 + b"\0")
    assert not is_binary(b"a" * 8000 + b"\0")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"0\n1\n" * 200_000, b"1\n0\n0\n" * 150_000),
        (b"".join(b"%d\n" % n for n in range(4900)), b"".join(b"%d\n" % n for n in reversed(range(4900)))),
        (
            b"".join(b"%d\n" % (n % 70) for n in range(5000)),
            b"".join(b"%d\n" % (n * 7 % 71) for n in range(5000)),
        ),
        (b"x" * (4 << 20), b"y" * (4 << 20)),
        (b"\n" * (2 << 20), b"\n" * (2 << 20) + b"end"),
    ],
)
def test_no_two_texts_take_long(old: bytes, new: bytes) -> None:
    """Texts of many equal lines, or in reverse: an answer, or none, within seconds on any machine."""
    started = time.process_time()
    changes_between(lines_of(old), lines_of(new))
    assert time.process_time() - started < 10
