"""Progress on a terminal: the total at once, rate and time left as they are now, whole on every width, gone at the end."""

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import Tree
from terminals import columns_of, on_terminal

import tensortime
from tensortime import api, maintenance, terminal
from tensortime.errors import TargetExists
from tensortime.messages import ENGLISH, Translator
from tensortime.monitor import NullMonitor
from tensortime.terminal import TerminalMonitor
from tensortime.text import seconds_text

MB, GB = 10**6, 10**9
QUICK = "from tensortime import terminal, __main__; terminal.PATIENCE = terminal.PAUSE = 0.0; __main__.main()"
"""Shows progress from the first moment on."""


class Screen(io.StringIO):
    """A terminal of so many columns, which keeps every line that was drawn on it."""

    def isatty(self) -> bool:
        """As far as anybody can tell."""
        return True

    def frames(self) -> list[str]:
        """What was to be seen in the line of progress, one after the other; empty where it was cleared."""
        return [frame.removesuffix("\x1b[K").partition("\n")[0] for frame in self.getvalue().split("\r")[1:]]


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """What `time.monotonic` would say."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the line of progress."""
    clock = Clock()
    monkeypatch.setattr(terminal, "time", clock)
    return clock


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the width of the terminal."""

    def set_width(columns: int) -> None:
        monkeypatch.setattr(terminal, "terminal_width", lambda: columns)

    set_width(80)
    return set_width


def run_step(
    clock: Clock, *parts: tuple[float, int, int], files: int = 0, size: int = 0, tr: Translator = ENGLISH
) -> list[str]:
    """What is drawn while a step goes on: after so many seconds so many more files and bytes."""
    screen = Screen()
    monitor = TerminalMonitor(screen, tr=tr)
    monitor.begin("store", files, size)
    for seconds, more_files, more in parts:
        clock.now += seconds
        monitor.advance(more_files, more)
    return screen.frames()


@pytest.mark.usefixtures("at")
def test_nothing_within_the_first_second_then_all_at_once(clock: Clock) -> None:
    """The first line has the total, the rate and the time that is left."""
    frames = run_step(clock, *[(0.4, 0, 100 * MB)] * 3, size=GB)
    assert frames == ["tensortime: storing [######              ]  30% of 1.0 GB, 250 MB/s, 3 s left"]


@pytest.mark.usefixtures("at")
def test_the_rate_is_the_present_one(clock: Clock) -> None:
    """What was known already and went by in no time does not promise as much for what has to be copied; and after a
    pause nothing is promised."""
    known, copied = (1.1, 0, 50 * GB), [(1.0, 0, 100 * MB)] * 8
    frames = run_step(clock, known, *copied, *[(1.0, 0, 0)] * 6, size=100 * GB)
    assert "45.5 GB/s, 2 s left" in frames[0]
    assert "100 MB/s, 8 min 12 s left" in frames[8]
    assert frames[-1].endswith("0 B/s, ? left")


@pytest.mark.usefixtures("at")
def test_small_files_do_not_make_the_large_look_endless(clock: Clock) -> None:
    """Files take time, too: after 10,000 of 10 bytes in a second, 10 GB do not take days."""
    (frame,) = run_step(clock, (1.1, 10_000, 100_000), files=10_001, size=10 * GB)
    assert re.search(r"90\.9 kB/s, 2\d s left$", frame)


@pytest.mark.usefixtures("at")
@pytest.mark.parametrize(
    ("files", "size", "shown"),
    [
        (0, 0, "tensortime: storing 1,000 files"),
        (4000, 0, "tensortime: storing [#####               ]  25%, 4 s left"),
    ],
)
def test_where_there_are_no_bytes(clock: Clock, files: int, size: int, shown: str) -> None:
    """With files alone their part is shown; where not even these are known, how many it were."""
    assert run_step(clock, (1.1, 1000, 0), files=files, size=size) == [shown]


@pytest.mark.usefixtures("at")
def test_more_than_was_announced(clock: Clock) -> None:
    """A file that grew: never past the end, never a time below none."""
    (frame,) = run_step(clock, (1.1, 3, 3 * GB), files=1, size=GB)
    assert "100% of 1.0 GB" in frame
    assert frame.endswith(" 0 s left")


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (100, "tensortime: storing [########            ]  42% of 12.3 GB, 120 MB/s, 1 min 00 s left"),
        (80, "tensortime: storing [####      ]  42% of 12.3 GB, 120 MB/s, 1 min 00 s left"),
        (70, "tensortime: storing  42% of 12.3 GB, 120 MB/s, 1 min 00 s left"),
        (60, "storing  42% of 12.3 GB, 120 MB/s, 1 min 00 s left"),
        (40, "storing  42%, 120 MB/s, 1 min 00 s left"),
        (20, "storing  42%"),
        (10, "storing …"),
    ],
)
def test_on_every_width(clock: Clock, at: Callable[[int], None], columns: int, shown: str) -> None:
    """Whole as long as it fits: the bar goes first, then our name, then the total; never as wide as the terminal."""
    at(columns)
    (frame,) = run_step(clock, (43.0, 0, 5_160 * MB), size=12_300 * MB)
    assert frame == shown


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("columns", [80, 40, 20])
def test_every_step_in_both_languages(
    clock: Clock, at: Callable[[int], None], columns: int, language: str
) -> None:
    """No line is as wide as the terminal, however much there is of anything."""
    at(columns)
    for step in terminal.WORDS:
        for files, size in ((0, 0), (10**9, 0), (10**9, 10**15)):
            screen = Screen()
            monitor = TerminalMonitor(screen, tr=Translator(language))
            monitor.begin(step, files, size)
            clock.now += 1.1
            monitor.advance(10**8, size // 10**5)
            (frame,) = screen.frames()
            assert 0 < columns_of(frame) < columns


# --- the verbs


class Steps(NullMonitor):
    """Keeps what is begun, and how much of it is done."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int, int]] = []
        self.done: list[int] = []

    def begin(self, step: str, files: int, size: int) -> None:
        """Note it."""
        self.begun.append((step, files, size))
        self.done.append(0)

    def advance(self, files: int, size: int) -> None:
        """Add it."""
        self.done[-1] += size


def test_the_total_is_known_before_the_first_byte(tmp_path: Path) -> None:
    """Backup, restore, verify and export say how many bytes it will be, and do as many: restore a few more, which are
    those of the `.tensortime` that it makes."""
    tree = Tree(tmp_path / "p").file("train.py", b"1" * 100).file("data.bin", size=3 << 20)
    exported = tmp_path / "x.zip"
    verbs: dict[str, Callable[[Steps], object]] = {
        "store": lambda steps: api.backup(directory=tree.root, name="x", monitor=steps),
        "place": lambda steps: api.restore("x", directory=tree.root, monitor=steps),
        "check": lambda steps: maintenance.verify(read_data="all", directory=tree.root, monitor=steps),
        "export": lambda steps: tensortime.export_experiment(
            "x", exported, directory=tree.root, monitor=steps
        ),
    }
    for verb, work in verbs.items():
        steps = Steps()
        work(steps)
        (step, _, size), done = steps.begun[-1], steps.done[-1]
        assert step == verb
        assert (3 << 20) + 100 <= size < (3 << 20) + 50_000
        assert size <= done < size + 50_000, verb


def test_a_restore_onto_itself_shows_how_far_it_has_compared(tmp_path: Path) -> None:
    """Before it says that the folder is there already, whole, it has read all large files in it."""
    tree = Tree(tmp_path / "p").file("data.bin", size=3 << 20).file("gone.bin", size=2 << 20)
    api.backup(directory=tree.root, name="x")
    folder = api.restore("x", directory=tree.root).path
    (Path(folder) / "gone.bin").unlink()
    steps = Steps()
    with pytest.raises(TargetExists, match=r"changed since: gone\.bin"):
        api.restore("x", directory=tree.root, monitor=steps)
    assert (steps.begun, steps.done) == ([("compare", 2, 5 << 20)], [3 << 20])


@pytest.mark.parametrize("known", ["nothing", "large files"])
def test_an_import_reads_each_byte_of_its_file_once(tmp_path: Path, known: str) -> None:
    """All of it counts from the first moment on: small files that are checked, and large ones that are there already."""
    tree = Tree(tmp_path / "p").file("train.py", b"1" * 100_000).file("old.bin", size=3 << 20)
    tree.file("data.bin", size=2 << 20).file("copy.bin", (tree.root / "data.bin").read_bytes())
    api.backup(directory=tree.root, name="x")
    tree.file("old.bin", b"2" * (1 << 20))
    api.backup(directory=tree.root, name="x", add=["old.bin"])
    tensortime.export_experiment("x", tmp_path / "x.zip", directory=tree.root)
    other = Tree(tmp_path / "q")
    if known == "large files":
        tree.file("old.bin", size=3 << 20)
        api.backup(directory=tree.root, name="y", store=tmp_path / "store")
    steps = Steps()
    got = tensortime.import_file(
        tmp_path / "x.zip", directory=other.root, store=tmp_path / "store", monitor=steps
    )
    ((step, files, size),) = steps.begun
    assert (step, files) == ("import", len(zipfile.ZipFile(tmp_path / "x.zip").namelist()))
    assert got.backups == 2
    assert size - 10_000 < steps.done[0] <= size, "README and export.json alone are not counted"


def test_gc_and_doctor_show_how_far_they_are(tmp_path: Path) -> None:
    """A pack that is written anew advances with each object, not at its end alone."""
    tree = Tree(tmp_path / "p")
    for number in range(50):
        tree.file(f"big{number}.bin", size=20_000)
    api.backup(directory=tree.root, name="gone")
    for number in range(40):
        (tree.root / f"big{number}.bin").unlink()
    api.backup(directory=tree.root, name="kept")
    tensortime.rm(["gone"], directory=tree.root)
    steps = Advances()
    report = maintenance.gc(trash=True, directory=tree.root, monitor=steps)
    assert report.rewritten == 1
    assert [step for step, _, _ in steps.begun] == ["count", "rewrite", "count"]
    assert len(steps.sizes) > 10
    assert sum(steps.sizes) == steps.begun[1][2] >= 1_000_000
    checked = Steps()
    maintenance.doctor(directory=tree.root, monitor=checked)
    assert [step for step, _, _ in checked.begun] == ["check"]


class Counts(Steps):
    """Keeps how many files each step was told of."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[int] = []

    def begin(self, step: str, files: int, size: int) -> None:
        """Note it."""
        super().begin(step, files, size)
        self.files.append(0)

    def advance(self, files: int, size: int) -> None:
        """Add them."""
        super().advance(files, size)
        self.files[-1] += files


class Advances(Steps):
    """Keeps each advance, too."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def advance(self, files: int, size: int) -> None:
        """Note it."""
        super().advance(files, size)
        self.sizes.append(size)


@pytest.mark.parametrize("verb", ["du", "rm", "gc", "purge"])
def test_what_looks_through_the_whole_store_shows_how_many_it_has_seen(tmp_path: Path, verb: str) -> None:
    """Of 300,000 files that takes seconds, in which nothing else happens."""
    tree = Tree(tmp_path / "p")
    for number in range(100):
        tree.file(f"{number}.py", b"%d" % number)
    for name in ("first", "last"):
        api.backup(directory=tree.root, name=name)
    verbs: dict[str, Callable[[Steps], object]] = {
        "du": lambda steps: tensortime.du(directory=tree.root, monitor=steps),
        "rm": lambda steps: tensortime.rm(["first"], directory=tree.root, monitor=steps),
        "gc": lambda steps: tensortime.gc(dry_run=True, directory=tree.root, monitor=steps),
        "purge": lambda steps: tensortime.purge(["1.py"], dry_run=True, directory=tree.root, monitor=steps),
    }
    steps = Counts()
    verbs[verb](steps)
    assert steps.begun[0] == ("count", 0, 0)
    assert steps.files[0] > 100


def test_a_terminal_in_the_end_shows_the_result_alone(tmp_path: Path) -> None:
    """Each verb that reads or writes data draws one line over and over, never breaks it, and takes it away."""
    columns = 40
    tree = Tree(tmp_path / "p").file("train.py").file("data.bin", size=6 << 20)
    for words in (
        ["backup", "--name", "x"],
        ["restore", "x"],
        ["verify", "--read-data"],
        ["export", "x", "../x.zip"],
        ["restore", "x", "--path", "data.bin"],
    ):
        shown = on_terminal("-c", QUICK, *words, cwd=tree.root, columns=columns)
        drawn = re.findall(r"\r([^\r\n]*)\x1b\[K", shown)
        lines = [line for line in drawn if line]
        assert lines, words
        assert all(columns_of(line) < columns for line in lines), words
        assert any(line.endswith(" left") for line in lines), words
        assert "\x1b" not in shown.rpartition("\r\x1b[K")[2]
        assert not drawn[-1], words


@pytest.mark.parametrize("words", [["backup", "--name", "again"], ["restore", "x"]])
def test_an_interrupt_takes_the_line_away(tmp_path: Path, words: list[str]) -> None:
    """Ctrl-C in the middle: the line is gone before it is said."""
    tree = Tree(tmp_path / "p").file("data.bin", size=6 << 20)
    api.backup(directory=tree.root, name="x")
    tree.file("more.bin", size=6 << 20)
    program = (
        "from tensortime import terminal, fsops, __main__\n"
        "terminal.PATIENCE = terminal.PAUSE = 0.0\n"
        "whole = fsops.blocks_of\n"
        "def stopped(fd, size):\n"
        "    for number, block in enumerate(whole(fd, size)):\n"
        "        yield block\n"
        "        if size > 1 << 20 and number: raise KeyboardInterrupt\n"
        "fsops.blocks_of = stopped\n"
        "__main__.main()\n"
    )
    shown = on_terminal("-c", program, *words, cwd=tree.root, code=130)
    assert re.search(r"\r[^\r\n]*\d+%[^\r\n]* left\x1b\[K\r\x1b\[Ktensortime: interrupted", shown)


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (59.4, "59 s", "59 秒"),
        (3599, "59 min 59 s", "59 分 59 秒"),
        (3600, "1 h 00 min", "1 小时 00 分"),
        (20_074, "5 h 34 min", "5 小时 34 分"),
    ],
)
def test_a_long_time_is_said_in_hours(seconds: float, english: str, chinese: str) -> None:
    """Ten terabytes are no `334 min`."""
    assert [seconds_text(seconds, tr) for tr in (ENGLISH, Translator("zh"))] == [english, chinese]
