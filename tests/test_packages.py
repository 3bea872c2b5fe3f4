"""What packages.txt says: read by folder names, written as `pip freeze` writes, read again by anybody."""

import importlib.metadata
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from repositories import CANARY, python

from tensortime.packages import (
    Package,
    conda_packages,
    decode_packages,
    encode_packages,
    installed,
    normal_name,
)

PYTHON = {"version": "3.12.4", "implementation": "cpython", "executable": "/venv/bin/python"}


def distribution(folder: Path, name: str, direct: object = None) -> None:
    """A `.dist-info` folder, perhaps with a `direct_url.json`."""
    (folder / f"{name}.dist-info").mkdir(parents=True)
    if direct is not None:
        (folder / f"{name}.dist-info" / "direct_url.json").write_text(json.dumps(direct))


def test_what_is_installed_here() -> None:
    """The same names and versions as importlib.metadata finds, for the interpreter of this test."""
    theirs: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        theirs.setdefault(normal_name(one.metadata["Name"]), one.version)
    assert {one.name: one.version for one in installed(sys.path)} == theirs


def test_what_pip_freeze_says() -> None:
    """Every line that `pip freeze` writes for this environment is read as the same package."""
    command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "freeze", "--all"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    theirs, ours = decode_packages(done.stdout), decode_packages(encode_packages(installed(sys.path), PYTHON))
    plain = {name: version for name, version in theirs.items() if re.match(r"\d", version)}
    assert len(plain) > 20
    assert plain.items() <= ours.items()
    assert ours["tensortime"].startswith("-e /")


def test_names_of_every_kind(tmp_path: Path) -> None:
    """dist-info, egg-info as folder and as file, with and without Python's version; leftovers of pip are none."""
    for name in ("scikit_learn-1.5.0", "torch-2.3.1+cu121", "Zope.Interface-6.0", "old-style-name-1!2.0rc1"):
        distribution(tmp_path, name)
    distribution(tmp_path, "~orch-2.0.0")
    (tmp_path / "PyGObject-3.42.1.egg-info").write_text("Metadata-Version: 1.0\n")
    (tmp_path / "python_apt-2.4.0+ubuntu2-py3.10.egg-info").mkdir()
    (tmp_path / "built-1.0-py3.11-linux-x86_64.egg-info").mkdir()
    (tmp_path / "notes.dist-info").write_text("")
    assert [(one.name, one.version) for one in installed([str(tmp_path / "none"), str(tmp_path)])] == [
        ("built", "1.0"),
        ("old-style-name", "1!2.0rc1"),
        ("pygobject", "3.42.1"),
        ("python-apt", "2.4.0+ubuntu2"),
        ("scikit-learn", "1.5.0"),
        ("torch", "2.3.1+cu121"),
        ("zope-interface", "6.0"),
    ]


def test_the_first_folder_of_the_path_wins(tmp_path: Path) -> None:
    """As with import; but what building a project left beside its code never hides how it was installed."""
    distribution(tmp_path / "a", "numpy-2.0.0")
    distribution(tmp_path / "b", "numpy-1.26.4")
    (tmp_path / "project" / "mine.egg-info").mkdir(parents=True)
    (tmp_path / "project" / "mine.egg-info" / "PKG-INFO").write_text("Name: mine\nVersion: 0.9\n")
    distribution(tmp_path / "b", "mine-1.0", {"url": "file:///src/mine", "dir_info": {"editable": True}})
    order = [tmp_path / name for name in ("project", "a", "b")]
    assert installed(map(str, order)) == [
        Package("mine", "1.0", "-e /src/mine"),
        Package("numpy", "2.0.0"),
    ]
    assert installed([str(order[0])]) == [Package("mine", "0.9")]


@pytest.mark.parametrize(
    ("direct", "origin"),
    [
        (
            {"url": "https://host/a.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
            "git+https://host/a.git@c0ffee",
        ),
        (
            {"url": "ssh://git@h/a", "vcs_info": {"vcs": "git", "commit_id": "1"}, "subdirectory": "py"},
            "git+ssh://git@h/a@1#subdirectory=py",
        ),
        (
            {"url": "https://h/a.whl", "archive_info": {"hashes": {"sha256": "ab"}, "hash": "sha256=ab"}},
            "https://h/a.whl#sha256=ab",
        ),
        ({"url": "file:///a.whl", "archive_info": {}}, "file:///a.whl"),
        ({"url": "file:///my%20code/a", "dir_info": {"editable": True}}, "-e /my code/a"),
        ({"url": "file:///code/a", "dir_info": {}}, "file:///code/a"),
        ({}, ""),
        ([], ""),
        ("text", ""),
    ],
)
def test_where_a_package_came_from(tmp_path: Path, direct: object, origin: str) -> None:
    """PEP 610, in the words of pip freeze; a broken direct_url.json costs nothing."""
    distribution(tmp_path, "a-1.0", direct)
    assert installed([str(tmp_path)]) == [Package("a", "1.0", origin)]


def test_what_setup_py_develop_installed(tmp_path: Path) -> None:
    """An egg-link leads to the project, which knows its version."""
    (tmp_path / "site").mkdir()
    (tmp_path / "code" / "My_Tool.egg-info").mkdir(parents=True)
    (tmp_path / "code" / "My_Tool.egg-info" / "PKG-INFO").write_text("Metadata-Version: 2.1\nVersion: 3.1\n")
    (tmp_path / "site" / "my-tool.egg-link").write_text(f"{tmp_path}/code\n.")
    assert installed([str(tmp_path / "site")]) == [Package("my-tool", "3.1", f"-e {tmp_path}/code")]


def test_conda_knows_more_than_pip(tmp_path: Path) -> None:
    """By the names of its records; what pip's metadata names already is not said twice."""
    for name in ("cuda-toolkit-11.8.0-0", "numpy-1.26.4-py311h64a7726_0", "_libgcc_mutex-0.1-main"):
        (tmp_path / f"{name}.json").write_text("not read")
    (tmp_path / "history").write_text("")
    known = conda_packages(str(tmp_path), [Package("numpy", "1.26.4")])
    assert known == [Package("_libgcc_mutex", "0.1=main"), Package("cuda-toolkit", "11.8.0=0")]
    assert conda_packages(str(tmp_path / "none")) == []


def test_the_file_is_a_requirements_file() -> None:
    """Sorted, one requirement a line, the Python and what pip cannot install as comments."""
    packages = [
        Package("torch", "2.3.1+cu121"),
        Package("mine", "0.1", "-e /code/mine"),
        Package("a", "1.0", "git+https://host/a.git@c0ffee"),
        Package("strange", ""),
    ]
    data = encode_packages(packages, PYTHON, [Package("cudatoolkit", "11.8.0=h37601d7_11")])
    assert data.decode().splitlines() == [
        "# cpython 3.12.4: /venv/bin/python",
        "a @ git+https://host/a.git@c0ffee",
        "# Editable install (mine==0.1)",
        "-e /code/mine",
        "strange",
        "torch==2.3.1+cu121",
        "# conda: cudatoolkit==11.8.0=h37601d7_11",
    ]
    assert decode_packages(data) == {
        "a": "git+https://host/a.git@c0ffee",
        "mine": "-e /code/mine",
        "strange": "",
        "torch": "2.3.1+cu121",
        "conda:cudatoolkit": "11.8.0=h37601d7_11",
    }


def test_secrets_of_an_address_stay_out() -> None:
    """S14: a package that was installed with a token in its URL."""
    packages = [
        Package("a", "1", f"git+https://user:{CANARY}@host/a.git@1"),
        Package("b", "1", f"git+https://{CANARY}@host/b.git@1"),
        Package("c", "1", f"https://host/c.whl?token={CANARY}"),
        Package("d", "1", f"-e git+https://x:{CANARY}@host/d.git"),
    ]
    data = encode_packages(packages, PYTHON)
    assert CANARY.encode() not in data
    assert decode_packages(data)["a"] == "git+https://host/a.git@1"


def test_names_that_would_break_a_line(tmp_path: Path) -> None:
    """A folder with a line break, bytes that are no UTF-8: still one requirement a line."""
    distribution(tmp_path, "a-1", {"url": "file:///x%0Ay%FF", "dir_info": {"editable": True}})
    data = encode_packages(installed([str(tmp_path)]), {})
    assert data.splitlines()[1:] == [b"# Editable install (a==1)", b"-e /x?y\xff"]
    assert decode_packages(data) == {"a": "-e /x?y\udcff"}


@pytest.mark.parametrize(
    "data", [b"", b"\0\xff\n\n", b"-r other.txt\n--index-url x\n", b"==1\n@ x\n# conda: \n-e"]
)
def test_anything_can_be_read(data: bytes) -> None:
    """What is no line of ours or pip's is passed over."""
    assert decode_packages(data) == {}


def test_other_ways_to_write_it() -> None:
    """What people and other tools write into such files."""
    data = (
        b"numpy == 2.0 ; python_version > '3'\r\nPy_YAML===6\nb@ https://h/b.whl\nc>=1\n"
        b"# Editable Git install with no remote (d==2.0)\n-e /code/d\n-e git+https://h/e@1#egg=E_e\n-e /f\n"
    )
    assert decode_packages(data) == {
        "numpy": "2.0",
        "py-yaml": "6",
        "b": "https://h/b.whl",
        "d": "-e /code/d",
        "e-e": "-e git+https://h/e@1#egg=E_e",
        "/f": "-e /f",
    }


def test_it_takes_no_time(tmp_path: Path) -> None:
    """7 ms for 140 packages when it was written; importlib.metadata took 44 ms for its import alone."""
    for number in range(140):
        distribution(
            tmp_path, f"package_{number}-{number}.0", {"url": "file:///x"} if number % 7 == 0 else None
        )
    times = []
    for _ in range(10):
        start = time.perf_counter()
        assert len(installed([str(tmp_path)])) == 140
        times.append(time.perf_counter() - start)
    assert min(times) < 0.015
    loaded = "import tensortime.packages; print('importlib.metadata' in sys.modules)"
    assert python(loaded) == "False\n"


def test_files_that_an_installer_linked(tmp_path: Path) -> None:
    """Some installers link every file from their cache."""
    distribution(tmp_path, "a-1.0")
    (tmp_path / "cached").write_text(json.dumps({"url": "https://h/a.whl"}))
    (tmp_path / "a-1.0.dist-info" / "direct_url.json").symlink_to(tmp_path / "cached")
    assert installed([str(tmp_path)])[0].origin == "https://h/a.whl"
