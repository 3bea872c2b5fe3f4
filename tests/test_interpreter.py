"""Which Python trains is found by path, as the shell would find it, and nothing is started for it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builders import Tree

from tensortime.interpreter import NOT_KNOWN, Interpreter, shell_interpreter, this_interpreter
from tensortime.packages import installed

ELF = b"\x7fELF and what a program holds"


def make_python(prefix: Path, version: str = "3.12.4", *, kind: str = "python") -> Path:
    """A Python as `make install` leaves it: program, links, library, headers, site-packages."""
    minor = version.rpartition(".")[0]
    tree = Tree(prefix)
    tree.file(f"bin/{kind}{minor}", ELF, mode=0o755)
    for name in ("python", "python3"):
        (prefix / "bin" / name).symlink_to(f"{kind}{minor}")
    tree.file(f"lib/{kind}{minor}/os.py", b"")
    tree.file(f"lib/{kind}{minor}/site-packages/of_{prefix.name}-1.0.dist-info/METADATA", b"")
    tree.file(f"include/{kind}{minor}/patchlevel.h", f'#define PY_VERSION  "{version}"\n'.encode())
    return prefix


def make_venv(folder: Path, base: Path, settings: str) -> Path:
    """A virtual environment of a Python that make_python made."""
    tree = Tree(folder)
    tree.file("pyvenv.cfg", f"home = {base}/bin\n{settings}".encode())
    tree.file(f"lib/python3.12/site-packages/of_{folder.name}-1.0.dist-info/METADATA", b"")
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(base / "bin" / "python3.12")
    (folder / "bin" / "python3").symlink_to("python")
    return folder


def found(tmp_path: Path, **environ: str) -> Interpreter:
    """The Python of a shell with this environment."""
    return shell_interpreter({"HOME": str(tmp_path / "nobody"), **environ}, str(tmp_path))


def names(python: Interpreter) -> list[str]:
    """The packages of a Python."""
    return [package.name for package in installed(python.folders)]


def test_this_process() -> None:
    """In process it is our own, with the path that import uses."""
    facts = this_interpreter(sys.path).facts
    assert facts == {
        "version": ".".join(map(str, sys.version_info[:3])),
        "implementation": "cpython",
        "executable": sys.executable,
        "prefix": sys.prefix,
        "source": "this process",
    }
    assert "pytest" in names(this_interpreter(sys.path))


@pytest.mark.parametrize("source", ["VIRTUAL_ENV", "PATH"])
def test_the_environment_of_these_tests(tmp_path: Path, source: str) -> None:
    """A real one: what its files tell is what it says of itself."""
    prefix = Path(sys.prefix)
    python = found(tmp_path, **{source: str(prefix if source == "VIRTUAL_ENV" else prefix / "bin")})
    assert python.facts == {
        **this_interpreter().facts,
        "executable": str(prefix / "bin" / "python"),
        "source": source,
    }
    assert set(names(python)) == {package.name for package in installed(sys.path)}


def test_the_python_of_the_system(tmp_path: Path) -> None:
    """The other real one, Debian's with its dist-packages where that is what there is."""
    program = shutil.which("python3", path="/usr/bin:/bin")
    if program is None:
        pytest.skip("cannot be installed: a python3 of the system")
    code = "import sys, json; print(json.dumps([sys.version.split()[0], sys.base_prefix, sys.path]))"
    done = subprocess.run([program, "-c", code], capture_output=True, check=True, env={"HOME": str(tmp_path)})
    version, prefix, path = json.loads(done.stdout)
    python = found(tmp_path, PATH=os.path.dirname(program))
    assert version.startswith(str(python.facts["version"]))
    assert python.facts["prefix"] == prefix
    assert [one.name for one in installed(path[1:])] == names(python)


def test_the_order_of_the_places(tmp_path: Path) -> None:
    """VIRTUAL_ENV before CONDA_PREFIX before PATH; one that is gone is passed over."""
    base, other = make_python(tmp_path / "base"), make_python(tmp_path / "other")
    venv = make_venv(tmp_path / "venv", base, "version = 3.12.4\n")
    conda = make_python(tmp_path / "conda", "3.10.2")
    surroundings = {"VIRTUAL_ENV": str(venv), "CONDA_PREFIX": str(conda), "PATH": f"{other}/bin"}
    assert names(found(tmp_path, **surroundings)) == ["of-venv"]
    assert found(tmp_path, **{**surroundings, "VIRTUAL_ENV": "/gone"}).facts["source"] == "CONDA_PREFIX"
    assert names(found(tmp_path, PATH=surroundings["PATH"])) == ["of-other"]
    assert found(tmp_path, PATH="/none").facts == {"error": "no python on PATH"}
    (other / "bin" / "python").unlink()
    assert found(tmp_path, PATH=f"{other}/bin").facts["executable"] == f"{other}/bin/python3"
    assert names(found(tmp_path, PATH=f"{other}/bin:{base}/bin")) == ["of-base"], "python before python3"
    assert names(found(tmp_path, PATH="other/bin")) == ["of-other"], "a relative entry, from the folder"


def test_a_virtual_environment(tmp_path: Path) -> None:
    """Its own packages and version; those of the base and the user only where pyvenv.cfg lets them in."""
    base = make_python(tmp_path / "base")
    user = tmp_path / "nobody/.local/lib/python3.12/site-packages/of_user-1.dist-info"
    user.mkdir(parents=True)
    alone = make_venv(tmp_path / "alone", base, "include-system-site-packages = false\nversion = 3.12.1\n")
    open_to_all = make_venv(
        tmp_path / "open", base, "include-system-site-packages = true\nversion_info = 3.12.2\n"
    )
    python = found(tmp_path, VIRTUAL_ENV=str(alone))
    assert (python.facts["version"], python.facts["prefix"]) == ("3.12.1", str(alone))
    assert names(python) == ["of-alone"]
    python = found(tmp_path, PATH=f"{open_to_all}/bin")
    assert (python.facts["version"], names(python)) == ("3.12.2", ["of-base", "of-open", "of-user"])
    python = found(tmp_path, PATH=f"{open_to_all}/bin", PYTHONNOUSERSITE="1")
    assert names(python) == ["of-base", "of-open"]


def test_pythonpath_comes_first(tmp_path: Path) -> None:
    """What `pip install --target` put beside, as clusters do."""
    base = make_python(tmp_path / "base")
    for name in ("of_base-2.0", "extra-1"):
        (tmp_path / "target" / f"{name}.dist-info").mkdir(parents=True)
    python = found(tmp_path, PATH=f"{base}/bin", PYTHONPATH=f"{tmp_path}/target:")
    assert [(one.name, one.version) for one in installed(python.folders)] == [
        ("extra", "1"),
        ("of-base", "2.0"),
    ]


def test_conda(tmp_path: Path) -> None:
    """The version of its own record, and where the records lie."""
    conda = make_python(tmp_path / "conda")
    shutil.rmtree(conda / "include")
    Tree(conda).file("conda-meta/python-3.12.3-hab00c5b_0_cpython.json", b"").file("conda-meta/history", b"")
    python = found(tmp_path, CONDA_PREFIX=str(conda))
    assert (python.facts["version"], python.conda) == ("3.12.3", os.fsencode(conda / "conda-meta"))


def test_without_headers_the_version_is_short(tmp_path: Path) -> None:
    """What is not known is left out, not guessed."""
    shutil.rmtree(make_python(tmp_path / "base") / "include")
    assert found(tmp_path, PATH=f"{tmp_path}/base/bin").facts["version"] == "3.12"


def test_pypy_and_free_threads(tmp_path: Path) -> None:
    """Other Pythons than the usual one are called what they are."""
    python = found(tmp_path, PATH=f"{make_python(tmp_path / 'pypy', '3.10.1', kind='pypy')}/bin")
    assert (python.facts["implementation"], names(python)) == ("pypy", ["of-pypy"])
    free = make_python(tmp_path / "free", "3.13.0")
    Tree(free).file("bin/python3.13t", ELF, mode=0o755).file("lib/python3.13t/os.py", b"")
    (free / "bin" / "python").unlink()
    (free / "bin" / "python").symlink_to("python3.13t")
    assert names(found(tmp_path, PATH=f"{free}/bin")) == []


@pytest.fixture
def pyenv(tmp_path: Path) -> Path:
    """A pyenv with two versions and its shims."""
    for version in ("3.11.9", "3.11.10", "3.12.4"):
        make_python(tmp_path / "pyenv/versions" / version, version)
    for name in ("python", "python3"):
        Tree(tmp_path / "pyenv").file(f"shims/{name}", b"#!/usr/bin/env bash\nexec pyenv exec\n", mode=0o755)
    return tmp_path / "pyenv"


def test_a_shim_of_pyenv(tmp_path: Path, pyenv: Path) -> None:
    """PYENV_VERSION, then .python-version upward, then pyenv's own choice, then the system's Python."""
    base, shims = make_python(tmp_path / "base", "3.9.1"), f"{pyenv}/shims"
    (tmp_path / "project" / "sub").mkdir(parents=True)

    def version(**environ: str) -> object:
        surroundings = {"PATH": f"{shims}:{base}/bin", **environ}
        return shell_interpreter(surroundings, str(tmp_path / "project" / "sub")).facts.get("version")

    assert version() == "3.9.1"
    (pyenv / "version").write_text("3.12.4\n")
    assert version() == "3.12.4"
    (tmp_path / "project" / ".python-version").write_text("# ours\n3.11\n")
    assert version() == "3.11.10", "the newest 3.11.x"
    assert version(PYENV_VERSION="3.11.9:3.12.4", PYENV_ROOT=str(pyenv)) == "3.11.9"
    assert version(PYENV_VERSION="system") == "3.9.1"


def test_what_cannot_be_known_is_said(tmp_path: Path, pyenv: Path) -> None:
    """A version that is not there, a script of somebody's, a tool that is any Python, a Python without library."""
    facts = found(tmp_path, PATH=f"{pyenv}/shims", PYENV_VERSION="2.7").facts
    assert facts == {"executable": f"{pyenv}/shims/python", "source": "PATH", "error": NOT_KNOWN}
    Tree(tmp_path).file("own/python", b"#!/bin/sh\nexec python3.12\n", mode=0o755)
    assert found(tmp_path, PATH=f"{tmp_path}/own").facts["error"] == NOT_KNOWN
    Tree(tmp_path).file("mise/mise", ELF, mode=0o755)
    (tmp_path / "mise" / "python").symlink_to("mise")
    assert (
        found(tmp_path, PATH=f"{tmp_path}/mise").facts["error"] == f"{tmp_path}/mise/mise may be any Python"
    )
    Tree(tmp_path).file("bare/bin/python3", ELF, mode=0o755)
    facts = found(tmp_path, PATH=f"{tmp_path}/bare/bin").facts
    assert (facts["version"], facts["error"]) == ("", "its library was not found")
