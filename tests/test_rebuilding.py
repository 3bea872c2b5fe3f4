"""An environment built again from `packages.txt`: by uv and by pip, without a network, with tiny real wheels."""

import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminals import PACKAGE

from tensortime import packages, rebuilding
from tensortime.errors import Message, TensorTimeError
from tensortime.monitor import NullMonitor
from tensortime.rebuilding import Rebuilt, environment_for

VERSION = sys.version.split()[0]
HERE = {"version": VERSION, "executable": sys.executable}
BIN = str(Path(sys.executable).parent)
TOOLS = ("uv", "pip")


class Listener(NullMonitor):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: Message) -> None:
        """One more line."""
        self.said.append(str(line))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheels, as an index has them: tiny-data needs a package that nobody has."""
    folder = tmp_path_factory.mktemp("wheels")
    for name, version, needs in (
        ("tiny_data", "1.0", "nobody-has-this"),
        ("tiny_data", "2.0", ""),
        ("Tiny.Net", "0.3", ""),
    ):
        module, file = name.lower().replace(".", "_"), name.replace(".", "_")
        info = f"{file}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        metadata += f"Requires-Dist: {needs}\n" if needs else ""
        with zipfile.ZipFile(folder / f"{file}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{module}.py", f"version = {version!r}\n")
            wheel.writestr(f"{info}/METADATA", metadata)
            wheel.writestr(
                f"{info}/WHEEL",
                "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            wheel.writestr(f"{info}/RECORD", "")
    return folder


@pytest.fixture(params=TOOLS)
def tool(
    request: pytest.FixtureRequest, wheels: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[str]:
    """With uv on PATH, and without; both look nowhere but into the folder of wheels."""
    links = tmp_path / "bin"
    links.mkdir()
    if request.param == "uv":
        (links / "uv").symlink_to(f"{BIN}/uv")
    variables = {
        "PATH": f"{links}:/usr/bin:/bin",
        "PIP_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "UV_NO_CONFIG": "1",
    }
    variables |= {"PIP_FIND_LINKS": str(wheels), "UV_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": "/dev/null"}
    variables |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "UV_CACHE_DIR": str(tmp_path / "uv")}
    variables |= {"PYTHONPATH": "/nowhere", "PIP_CACHE_DIR": str(tmp_path / "pip")}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield request.param


def listed(*lines: str) -> bytes:
    """A `packages.txt` of these lines."""
    return "".join(f"{line}\n" for line in (f"# cpython {VERSION}: /old/bin/python", *lines)).encode()


def answer(made: Rebuilt, expression: str, **variables: str) -> str:
    """What Python in that environment says of an expression."""
    words = [made.python, "-c", f"import tiny_data; print({expression})"]
    env = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        words, cwd=made.folder, env=env, check=True, capture_output=True, text=True
    ).stdout.strip()


def environments(tmp_path: Path) -> list[str]:
    """What the cache holds, beside locks."""
    folder = tmp_path / "cache" / "tensortime" / "environments"
    return sorted(name for name in os.listdir(folder) if name != rebuilding.LOCKS) if folder.exists() else []


def test_it_holds_what_was_there(tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The listed versions and nothing else, also where they need what is not listed; the second time at once.

    What the project's own modules are called does not matter.
    """
    monitor = Listener()
    for name in ("json.py", "pip.py", "venv.py"):
        (tmp_path / name).write_text("raise SystemExit('not this one')\n")
    monkeypatch.chdir(tmp_path)
    text = listed(
        "tiny-data==1.0", "Tiny.Net==0.3", "# Editable install (tensortime==0.1.9)", "-e /gone/tensortime"
    )
    made = environment_for(text, HERE, monitor, worktree=str(tmp_path))
    assert made.is_new and made.version == VERSION and not made.differs and not made.path
    assert f"2 packages with {tool}" in monitor.said[0]
    assert answer(made, "tiny_data.version") == "1.0"
    assert (
        answer(made, "__import__('tensortime').__file__")
        == f"{made.folder}/lib/python{VERSION[:4]}/site-packages/tensortime/__init__.py"
    )
    found = packages.installed([rebuilding.site_packages(made.python)[1]])
    assert [(one.name, one.version) for one in found][:2] == [("tensortime", "0.2.0"), ("tiny-data", "1.0")]
    assert [one.name for one in found] == ["tensortime", "tiny-data", "tiny-net"]
    assert found[0].origin == "-e /gone/tensortime"
    again = environment_for(text, HERE, monitor)
    assert (again.python, again.is_new, len(monitor.said)) == (made.python, False, 1)
    assert environments(tmp_path) == [os.path.basename(made.folder)]


@pytest.mark.parametrize(
    ("tool", "line", "named"),
    [
        ("pip", "no-such-thing==1.0", "no-such-thing==1.0"),
        ("uv", "no-such-thing==1.0", "no-such-thing==1.0"),
        ("uv", "tiny-data==9.9", "tiny-data==9.9"),
        ("uv", "far-away @ file:///nowhere/far_away-1.0-py3-none-any.whl", "far-away"),
    ],
    indirect=["tool"],
)
def test_what_cannot_be_installed_is_named(line: str, named: str, tool: str, tmp_path: Path) -> None:
    """One line with the package, what the installer said as the hint; nothing is left."""
    with pytest.raises(TensorTimeError) as caught:
        environment_for(listed("Tiny.Net==0.3", line), HERE, Listener())
    assert str(caught.value).startswith(f"{named} cannot be installed: ")
    assert "\n" not in str(caught.value) + str(caught.value.hint)
    assert str(caught.value.hint).startswith(f"{tool} said: ")
    assert caught.value.exit_code == 1
    assert environments(tmp_path) == []


@pytest.mark.parametrize(
    "said",
    [
        "ERROR: Could not install packages: [Errno 2] No such file: '/x/tiny_net-0.3-py3-none-any.whl'",
        "  error: subprocess-exited-with-error\n  error: command 'gcc' failed\nERROR: Failed building wheel for Tiny.Net\n"
        "ERROR: Failed to build installable wheels for some pyproject.toml based projects",
        "error: Failed to fetch: `https://host/simple/tiny-net/`\n  Caused by: tcp connect error",
        "error: Failed to build `tiny-net==0.3`\n  cause: The build backend returned an error",
        "cause: Because there is no version of tiny-net==0.3 and you require tiny-net==0.3, we can conclude that",
    ],
)
def test_how_installers_name_a_package(said: str) -> None:
    """Whatever words they find for it."""
    problem = rebuilding.not_installed(said, ["tiny-data==1.0", "Tiny.Net==0.3"], "pip")
    assert str(problem).startswith("Tiny.Net==0.3 cannot be installed: ")
    assert "\n" not in str(problem)


@pytest.mark.parametrize("tool", ["uv"], indirect=True)
def test_a_leftover_is_no_environment(tool: str, tmp_path: Path) -> None:
    """One that never became whole, or whose Python is gone, is built again."""
    text = listed("tiny-data==2.0")
    made = environment_for(text, HERE, Listener())
    os.unlink(os.path.join(made.folder, rebuilding.COMPLETE))
    Path(made.folder, "lib", "leftover").write_bytes(b"")
    again = environment_for(text, HERE, Listener())
    assert again.is_new and not Path(made.folder, "lib", "leftover").exists()
    os.unlink(made.python)
    os.symlink("/nowhere/python", made.python)
    assert environment_for(text, HERE, Listener()).is_new
    assert answer(made, "tiny_data.version") == "2.0"


@pytest.mark.parametrize("tool", ["uv"], indirect=True)
def test_two_at_once_build_one(tool: str, tmp_path: Path) -> None:
    """The second waits for the first, and uses what it made."""
    made: list[Rebuilt] = []
    text = listed("tiny-data==2.0")
    threads = [
        threading.Thread(target=lambda: made.append(environment_for(text, HERE, Listener())))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.is_new for one in made) == [False, False, True]
    assert len(environments(tmp_path)) == 1


@pytest.mark.parametrize("tool", ["uv"], indirect=True)
def test_what_was_installed_from_a_folder(tool: str, tmp_path: Path) -> None:
    """The project's own folder is the worktree's, by PYTHONPATH; another one as it is now, which is said."""
    (tmp_path / "other" / "src").mkdir(parents=True)
    (tmp_path / "other" / "src" / "othermodule.py").write_text("where = __file__\n")
    (tmp_path / "worktree" / "lib" / "src").mkdir(parents=True)
    (tmp_path / "worktree" / "lib" / "src" / "own.py").write_text("where = __file__\n")
    text = listed(
        *("tiny-data==2.0", "# Editable install (other==1.2)", f"-e {tmp_path}/other"),
        *("# Editable install (own==0.1)", "-e /home/a/project/lib"),
    )
    made = environment_for(text, HERE, Listener(), project="/home/a/project", worktree=f"{tmp_path}/worktree")
    assert made.path == (f"{tmp_path}/worktree/lib/src", f"{tmp_path}/worktree/lib")
    where = answer(
        made, "__import__('own').where, __import__('othermodule').where", PYTHONPATH=":".join(made.path)
    )
    assert f"{tmp_path}/worktree/lib/src/own.py" in where and f"{tmp_path}/other/src/othermodule.py" in where
    assert [str(one) for one in made.differs] == [f"other is as its folder {tmp_path}/other is now"]
    direct = json.loads(
        next(Path(made.folder).glob("lib/*/site-packages/own-0.1.dist-info/direct_url.json")).read_text()
    )
    assert direct == {"url": "file:///home/a/project/lib", "dir_info": {"editable": True}}
    with pytest.raises(
        TensorTimeError, match="gone cannot be installed: its folder /gone is no longer there"
    ):
        environment_for(listed("# Editable install (gone==1)", "-e /gone"), HERE, Listener())


@pytest.mark.parametrize("tool", ["uv"], indirect=True)
def test_a_python_that_is_not_here(tool: str, tmp_path: Path) -> None:
    """The nearest one is used, and that is said; as are conda's packages."""
    made = environment_for(
        listed("tiny-data==2.0", "# conda: mkl==2024.0=h1"),
        {"version": "3.1.7", "executable": "/old/python"},
        Listener(),
    )
    assert [str(one) for one in made.differs] == [
        f"Python {VERSION} instead of 3.1.7, which is not here",
        "conda's packages are not rebuilt: mkl",
    ]
    assert answer(made, "tiny_data.version") == "2.0"


@pytest.mark.parametrize(
    "line", ["--index-url http://evil/", "-r /etc/passwd", "a b", "x==1 --hash=y", "./x.whl"]
)
def test_only_packages_are_asked_for(line: str, tmp_path: Path) -> None:
    """The list may come from anybody: a line that is an option or a path is refused."""
    with pytest.raises(TensorTimeError, match="a line that is no package"):
        packages.wanted_by(listed(line))


@pytest.mark.parametrize("tool", ["pip"], indirect=True)
def test_a_cache_that_cannot_be_written(tool: str, tmp_path: Path) -> None:
    """One line, with the way out."""
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(TensorTimeError, match="the environment cannot be made in ") as caught:
        environment_for(listed("tiny-data==2.0"), HERE, Listener())
    assert "XDG_CACHE_HOME" in str(caught.value.hint)


def test_where_environments_are_kept() -> None:
    """In the user's cache; a relative XDG_CACHE_HOME is none."""
    assert rebuilding.default_cache({"XDG_CACHE_HOME": "/big"}) == "/big/tensortime/environments"
    assert rebuilding.default_cache({"XDG_CACHE_HOME": "x"}) == os.path.expanduser(
        "~/.cache/tensortime/environments"
    )


def test_the_package_under_test_is_the_one_that_is_linked() -> None:
    """What runs is what a rebuilt environment gets."""
    assert os.path.dirname(os.path.abspath(rebuilding.__file__)) == f"{PACKAGE}/tensortime"
