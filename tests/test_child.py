"""One command, run as if it were bare: where no terminal is. Exit codes, streams byte for byte, signals."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from running import BARE, RUN, command_line, ending_in, log_in, piped, python, variables

from tensortime.child import run_command
from tensortime.outputlog import OutputLog


@pytest.mark.parametrize(
    ("line", "code", "number"),
    [
        ("exit 3", 3, None),
        ("exit 255", 255, None),
        ("kill -TERM $$", 143, signal.SIGTERM),
        ("kill -KILL $$", 137, signal.SIGKILL),
        ("kill -INT $$", 130, signal.SIGINT),
    ],
)
def test_it_ends_as_its_command(line: str, code: int, number: int | None, tmp_path: Path) -> None:
    """The exit code is what a shell says of it."""
    assert piped(RUN, ["sh", "-c", line], tmp_path).returncode == code
    ending = ending_in(tmp_path)
    assert (ending["exit_code"], ending["signal"]) == (code, number)
    assert ending["started_ns"] <= ending["ended_ns"] < ending["started_ns"] + 60 * 10**9


def test_what_cannot_be_started(tmp_path: Path) -> None:
    """127 for what is not there, 126 for what is no program, and why; nothing is left of it."""
    (tmp_path / "data.csv").write_bytes(b"1,2\n")
    for word, code, why in (
        ("no-such-program", 127, "no-such-program was not found"),
        ("./missing.sh", 127, "./missing.sh was not found"),
        ("./data.csv", 126, "./data.csv cannot be started: Permission denied"),
        ("/", 126, "/ cannot be started: Permission denied"),
    ):
        assert piped(RUN, [word], tmp_path).returncode == code
        assert ending_in(tmp_path)["refused"] == why


def test_a_caller_with_many_open_files(tmp_path: Path) -> None:
    """Descriptors past those that `select` knows are no reason to leave a command alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    log = OutputLog(tmp_path / "log")
    try:
        done = run_command(["sh", "-c", "echo out; exit 3"], folder=".", environment=variables(), log=log)
    finally:
        log.close()
        for fd in opened:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert done.exit_code == 3 and (tmp_path / "log").read_bytes() == b"out\n"


def test_a_script_without_a_first_line(tmp_path: Path) -> None:
    """A shell takes it for one of its own; so do we."""
    script = tmp_path / "train"
    script.write_bytes(b'echo "trained $1"\n')
    script.chmod(0o755)
    assert piped(RUN, ["./train", "well"], tmp_path).stdout == b"trained well\n"


def test_each_stream_stays_itself(tmp_path: Path) -> None:
    """Any bytes: output is in stdout, errors are in stderr, both are in the log."""
    script = "import os, sys; b = bytes(range(256)) * 1000\n"
    script += (
        "os.write(2, b'warning\\n'); sys.stdout.buffer.write(b); sys.stdout.flush(); os.write(2, b[:70000])"
    )
    bare, run = (piped(way, python(script), tmp_path) for way in (BARE, RUN))
    assert (run.stdout, run.stderr) == (bare.stdout, bare.stderr)
    assert len(log_in(tmp_path)) == len(bare.stdout) + len(bare.stderr)


def test_two_streams_in_one_file_keep_their_order(tmp_path: Path) -> None:
    """`> log 2>&1`: what was written first stands first."""
    script = "import os\nfor i in range(500): os.write(1 + i % 2, b'%d\\n' % i)"
    target = tmp_path / "log"
    with open(target, "wb") as file:
        piped(RUN, python(script), tmp_path, stdout=file, stderr=subprocess.STDOUT)
    assert target.read_bytes() == b"".join(b"%d\n" % number for number in range(500)) == log_in(tmp_path)


def test_its_input_is_ours(tmp_path: Path) -> None:
    """What is piped in reaches it, whole, and the end of it too."""
    data = os.urandom(300_000)
    assert piped(RUN, ["cat"], tmp_path, input=data).stdout == data


def test_what_we_inherited_it_inherits(tmp_path: Path) -> None:
    """The descriptors of make's job server are its own; ours are not."""
    reading, writing = os.pipe()
    script = (
        f"import os; print(sorted(map(int, os.listdir('/proc/self/fd')))); os.write({writing}, b'token ')"
    )
    bare, run = (piped(way, python(script), tmp_path, pass_fds=[writing]) for way in (BARE, RUN))
    os.close(writing)
    with open(reading, "rb") as file:
        assert file.read() == b"token token "
    assert run.stdout == bare.stdout


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    """`run … | head -1` ends at once, with SIGPIPE, as the bare command."""
    for way in (BARE, RUN):
        with subprocess.Popen(
            command_line(way, ["yes"], tmp_path), env=variables(), cwd=tmp_path, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"y\n"
            process.stdout.close()
            assert process.wait(20) in (128 + signal.SIGPIPE, -signal.SIGPIPE)


def test_a_reader_that_takes_its_time(tmp_path: Path) -> None:
    """All of it arrives, also where the command ended long before."""
    script = "import os; os.write(1, b'x' * 50_000); os.write(2, b'done')"
    with subprocess.Popen(
        command_line(RUN, python(script), tmp_path),
        env=variables(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pipesize=4096,
    ) as process:
        assert process.stderr is not None and process.stdout is not None
        assert process.stderr.read(4) == b"done"
        time.sleep(0.8)  # longer than what is left behind is waited for
        assert process.stdout.read() == b"x" * 50_000


def test_who_is_left_behind_keeps_nobody(tmp_path: Path) -> None:
    """A process that holds the output open after the command's end, silent or talking, is not waited for."""
    for line in ("sleep 30 & echo first; echo $!", "yes & echo $!"):
        started = time.monotonic()
        with subprocess.Popen(
            command_line(RUN, ["sh", "-c", line], tmp_path),
            env=variables(),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            shown = process.stdout.read()
            assert process.wait() == 0
        left = next(int(word) for word in shown.split() if word.isdigit())
        with contextlib.suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)
        assert time.monotonic() - started < 15


def test_who_is_left_behind_goes_on_writing_into_a_file(tmp_path: Path) -> None:
    """As after a bare command: a training that a script started in the background does not end at its next word."""
    fifo, written = tmp_path / "fifo", tmp_path / "written"
    os.mkfifo(fifo)
    line = f"(read word < {fifo}; echo $word; echo more >&2; echo end > {tmp_path}/end) & echo first"
    with written.open("wb") as file:
        started = time.monotonic()
        piped(RUN, ["sh", "-c", line], tmp_path, stdout=file, stderr=file)
    assert written.read_bytes() == b"first\n" and time.monotonic() - started < 15
    fifo.write_text("second\n")
    while written.read_bytes() != b"first\nsecond\nmore\n" or not (tmp_path / "end").exists():
        assert time.monotonic() - started < 30, written.read_bytes()
        time.sleep(0.02)


COUNTING = """
import signal, sys, time
got = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda n, _: got.append(signal.Signals(n).name))
print("up", flush=True)
while not got: time.sleep(0.01)
time.sleep(0.2)
print(*got, flush=True)
sys.exit(7)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_a_signal_is_the_commands(name: str, tmp_path: Path) -> None:
    """Slurm signals the process that it started: the command gets it, once, and is waited for."""
    with subprocess.Popen(
        command_line(RUN, python(COUNTING), tmp_path),
        env=variables(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a job has no terminal
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.Signals[name])
        assert process.stdout.read() == name.encode() + b"\n"
        assert process.wait() == 7
    assert ending_in(tmp_path)["interrupted"] == ("" if "USR" in name else name)


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """`nohup tensortime run …`: neither we nor the command end with the terminal."""
    script = "import signal, os; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, flush=True)"
    script += "; os.kill(os.getppid(), signal.SIGHUP); print('on')"
    run = piped(
        RUN, python(script), tmp_path, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    assert (run.stdout, run.returncode) == (b"True\non\n", 0)


def test_peak_memory(tmp_path: Path) -> None:
    """In bytes, of the largest of its processes; not known where that is less than what runs it."""
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'b = b\"x\" * 200_000_000'])"
    # What started us counts in what the system says of us, and must not hide the command's.
    large = [
        sys.executable,
        "-c",
        "import os, sys; b = b'x' * 400_000_000; os.execv(sys.argv[1], sys.argv[1:])",
    ]
    piped(BARE, [*large, *command_line(RUN, python(script), tmp_path)], tmp_path)
    assert 200_000_000 < ending_in(tmp_path)["peak_memory"] < 300_000_000
    piped(RUN, ["true"], tmp_path)
    assert ending_in(tmp_path)["peak_memory"] is None


def test_without_a_log_nothing_stands_between(tmp_path: Path) -> None:
    """The command has our very streams."""
    script = "import os, sys\nfrom tensortime.child import run_command\n"
    script += "words = [sys.executable, '-c', 'import os; print(os.fstat(1).st_ino)']\n"
    script += "print(os.fstat(1).st_ino, flush=True)\n"
    script += "sys.exit(run_command(words, folder='.', environment=os.environ, log=None).exit_code)"
    first, second = piped(BARE, python(script), tmp_path).stdout.split()
    assert first == second


def test_in_another_thread(tmp_path: Path) -> None:
    """No signal tells there that the command has ended; it is seen all the same."""
    endings = []
    log = OutputLog(tmp_path / "output.log")

    def run() -> None:
        words = ["sh", "-c", "exec >&- 2>&-; sleep 0.05; exit 3"]
        endings.append(run_command(words, folder=str(tmp_path), environment=os.environ, log=log))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    log.close()
    assert [one.exit_code for one in endings] == [3]


def test_what_a_killed_runner_leaves(tmp_path: Path) -> None:
    """Whatever was written until then is in the log already."""
    script = "import time; print('epoch 1', flush=True); input(); print('epoch 2', flush=True)"
    with subprocess.Popen(
        command_line(RUN, python(script), tmp_path),
        env=variables(),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"epoch 1\n"
        process.kill()
        process.wait()
        assert log_in(tmp_path) == b"epoch 1\n"
