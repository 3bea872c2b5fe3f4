"""The log of what a command wrote: its first and last part, without keys, whatever happens meanwhile."""

import re
from pathlib import Path

import pytest
from conftest import Tally

from tensortime import outputlog, redaction
from tensortime.outputlog import OutputLog

KEYS = (
    "hf_" + "aB3" * 12,
    "sk-" + "0123456789abcdef" * 3,
    "sk-proj-" + "Ab1" * 12,
    "ghp_" + "Zz9" * 12,
    "github_pat_" + "a1" * 20,
    "glpat-" + "x" * 20,
    "AKIA" + "ABCDEFGH12345678",
    "AIza" + "x" * 35,
    "xoxb-" + "1" * 12,
    "eyJ" + "h" * 10 + "." + "b" * 10 + ".c",
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """A log that keeps little."""
    monkeypatch.setattr(outputlog, "KEPT", 1000)
    return 1000


def logged(path: Path, *pieces: bytes) -> OutputLog:
    """A log of these pieces, closed."""
    log = OutputLog(path)
    for piece in pieces:
        log.write(piece)
    log.close()
    return log


def test_all_of_it_is_kept(tmp_path: Path) -> None:
    """Any bytes, escape sequences and unfinished lines too."""
    data = b"\x1b[31mred\x1b[0m\r\n\xff\xfe\x00 half \xe2\x96" + b"a bar\rthat moves\r" * 100 + b"no end"
    log = logged(tmp_path / "x" / "output.log", data[:7], data[7:20], data[20:])
    assert (tmp_path / "x" / "output.log").read_bytes() == data
    assert (log.bytes, log.cut, log.problem) == (len(data), 0, None)


def test_values_that_are_known_to_be_secrets(tmp_path: Path) -> None:
    """Of an option or a variable, of no shape that could be known: wherever they stand in a line."""
    logged_key = "3b1f" * 10
    log = OutputLog(tmp_path / "output.log", [logged_key])
    log.write(b"Namespace(wandb_key='" + logged_key[:7].encode())
    log.write(logged_key[7:].encode() + b"', lr=0.1)\n")
    log.close()
    assert (tmp_path / "output.log").read_bytes() == b"Namespace(wandb_key='***', lr=0.1)\n"


def test_five_megabytes_of_each_end() -> None:
    """What README promises."""
    assert outputlog.KEPT == 5_000_000


@pytest.mark.parametrize("piece", [1, 7, 300, 5000])
def test_the_ends_are_kept_and_the_middle_is_counted(
    piece: int, small: int, tmp_path: Path, tally: Tally
) -> None:
    """A line stands for what is cut, and says how much; the lines at the cut are whole."""
    sizes = (1, 999, 1000, 1001, 1999, 2000, 2001, 3000, 10_007, 50_000)
    for size in sizes:
        lines = b"".join(b"line %07d\n" % number for number in range(size // 13 + 1))[:size]
        folder = tmp_path / str(size)
        log = logged(folder / "log", *(lines[at : at + piece] for at in range(0, size, piece)))
        kept = (folder / "log").read_bytes()
        assert log.bytes == size
        assert sorted(path.name for path in folder.iterdir()) == ["log"]
        if size <= 2 * small - 26 or kept == lines:
            assert (kept, log.cut) == (lines, 0)
            continue
        begin, cut, end = re.split(rb"\n\[tensortime: (\d+) bytes are left out here\]\n", kept)
        assert lines.startswith(begin)
        assert lines.endswith(end)
        assert end.startswith(b"line ")
        assert begin.endswith(b"\n")
        assert len(begin) + int(cut) + len(end) == size
        assert log.cut == int(cut)
        assert small - 13 <= len(begin) <= small
        assert small - 26 <= len(end) <= small
    tally("logs cut", len(sizes))


def test_what_a_dead_process_leaves(small: int, tmp_path: Path) -> None:
    """At any moment the beginning and the end are on disk, bounded; the next run goes on behind them."""
    log = OutputLog(tmp_path / "log")
    for number in range(1000):
        log.write(b"line %07d\n" % number)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 * small + 26
    assert b"line 0000000\n" in (tmp_path / "log").read_bytes()
    assert (tmp_path / "log.2").read_bytes().endswith(b"line 0000999\n")
    logged(tmp_path / "log", b"requeued\n")
    kept = (tmp_path / "log").read_bytes()
    assert kept.startswith(b"line 0000000\n")
    assert kept.endswith(b"line 0000999\nrequeued\n")


def test_a_log_is_continued(small: int, tmp_path: Path) -> None:
    """A job that is preempted again and again: still the two ends, and the sum of what is missing."""
    total = 0
    for attempt in range(5):
        text = b"".join(b"%d: %06d\n" % (attempt, number) for number in range(700))
        log = logged(tmp_path / "log", text)
        total += len(text)
        assert log.bytes == total
    kept = (tmp_path / "log").read_bytes()
    cut = re.findall(rb"(\d+) bytes are left out", kept)
    assert [int(one) for one in cut] == [log.cut]
    assert len(kept) - kept.count(b"") < 2 * small + 100
    assert kept.startswith(b"0: 000000\n")
    assert kept.endswith(b"4: 000699\n")


def test_keys_are_hidden_wherever_they_are_parted(tmp_path: Path, tally: Tally) -> None:
    """Whatever pieces they come in; what stands around them stays."""
    for number, key in enumerate(KEYS):
        line = f"logged in with {key} at step 3\n".encode()
        for at in range(0, len(line), 5):
            path = tmp_path / f"log{number}-{at}"
            logged(path, line[:at], line[at:])
            assert path.read_bytes() == b"logged in with *** at step 3\n"
            tally("keys parted")


def test_what_shows_a_key_is_known_without_looking_for_one() -> None:
    """Each shape has one of the signs that are looked for first."""
    for key in (*KEYS, "https://user:word@host/", "Authorization: BEARER abcdefgh12345"):
        assert "***" in redaction.redact_shapes(key) or "user" not in redaction.redact_shapes(key)
        assert redaction.redact_output(key.encode()) == redaction.redact_shapes(key).encode()


def test_a_key_in_a_line_without_end(tmp_path: Path) -> None:
    """A progress bar that never ends its line, words and words: the keys among them are hidden all the same."""
    words = [b"word%d" % number for number in range(3000)]
    for at in range(0, 3000, 100):
        words[at : at + 2] = [b"bearer", b"abcdefgh12345678"]
    text = b" ".join(words)
    for piece in (100, 4096, 5000):
        logged(tmp_path / f"log{piece}", *(text[at : at + piece] for at in range(0, len(text), piece)))
        kept = (tmp_path / f"log{piece}").read_bytes()
        assert kept == text.replace(b"bearer abcdefgh12345678", b"bearer ***")


@pytest.mark.parametrize("piece", [1, 50, 10_000])
def test_the_lines_of_a_private_key_are_hidden(piece: int, tmp_path: Path) -> None:
    """However they come, and whatever the other stream says between them; what is printed after it is kept."""
    body = [b"MIIEpAIBAAKCAQEA" + b"Ab3/x9Qz" * 6, b"q1+w=="]
    begin, end = b"-----BEGIN RSA PRIVATE KEY-----", b"-----END RSA PRIVATE KEY-----"
    head = [b"DEK-Info: AES-128-CBC,0A1B", b""]
    data = b"".join(line + b"\n" for line in (b"key:", begin, *head, *body, end, b"done"))
    log = OutputLog(tmp_path / "log")
    for at in range(0, len(data), piece):
        log.write(data[at : at + piece])
        log.write(b"loss\n", stream=2)
    log.close()
    kept = (tmp_path / "log").read_bytes().replace(b"loss\n", b"")
    assert kept.splitlines() == [b"key:", begin, *head, b"***", b"***", end, b"done"]


def test_each_stream_has_its_own_lines(tmp_path: Path) -> None:
    """A warning in the middle of a line of output does not part it, nor a key in it."""
    log = OutputLog(tmp_path / "log")
    key = KEYS[0].encode()
    log.write(b"token " + key[:10], 1)
    log.write(b"warning\n", 2)
    log.write(key[10:] + b"\n", 1)
    log.close()
    assert (tmp_path / "log").read_bytes() == b"warning\ntoken ***\n"


def test_a_full_disk_ends_the_log_alone(tmp_path: Path) -> None:
    """Nothing is raised; why, and how much is missing, is known."""
    log = OutputLog("/dev/full")
    log.write(b"x\n")
    log.write(b"y\n")
    log.close()
    assert log.problem is not None
    assert log.bytes == 4
    (tmp_path / "file").write_bytes(b"")
    assert logged(tmp_path / "file" / "log", b"x\n").problem is not None


def test_a_line_without_end_does_not_wait(tmp_path: Path) -> None:
    """A bar of dots is on disk as it grows, but for a few of them, whether spaces part them or not."""
    for dots in (b"." * 70_000, b". " * 35_000):
        log = OutputLog(tmp_path / "log")
        log.write(dots)
        assert (tmp_path / "log").stat().st_size >= len(dots) - outputlog.HELD
        log.close()
        assert (tmp_path / "log").read_bytes() == dots
        (tmp_path / "log").unlink()
