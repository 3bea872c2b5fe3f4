"""A backup out of a notebook remembers what was typed. CASES C14, S14."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from builders import Tree
from repositories import CANARY, PACKAGE
from stores import everything_in

from tensortime import api
from tensortime.notebook import notebook_cells, without_connection

EXECUTE = """
import sys
import nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
client = nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": sys.argv[2]}})
with client.setup_kernel():
    for index in [*range(len(notebook.cells)), 1]:  # and the second once more
        client.execute_cell(notebook.cells[index], index)
for cell in notebook.cells:
    for output in cell.outputs:
        print(output.get("text", ""))
"""

CELLS = (
    f"import sys\nsys.path.insert(0, {PACKAGE!r})\nfrom tensortime import TimeMachine\nlr = 3e-4",
    "report = TimeMachine().backup()\nprint('made', report.experiment)",
    f'api_key = "{CANARY}"\nprint("done")',
)


def run_notebook(project: Path, home: Path, cells: tuple[str, ...]) -> str:
    """Execute a notebook as a server would, in a process of its own; what its cells printed."""
    source: dict[str, Any] = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}}
    source["cells"] = [
        {
            "cell_type": "code",
            "id": f"c{n}",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": cell,
        }
        for n, cell in enumerate(cells)
    ]
    path = Tree(project).file("analysis.ipynb", json.dumps(source).encode()).root / "analysis.ipynb"
    environ = {
        **os.environ,
        "HOME": str(home),
        "JPY_SESSION_NAME": str(path),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    command = [sys.executable, "-W", "ignore", "-c", EXECUTE, str(path), str(project)]
    done = subprocess.run(
        command, env=environ, cwd=project, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_notebook_backs_up_itself(tmp_path: Path) -> None:
    """C14: no prompt, no hang; the cells that ran are in the store without their secrets; a re-run cell works."""
    project = tmp_path / "project"
    Tree(project).file("model.py", b"x = 1\n")
    (tmp_path / "home").mkdir()
    printed = run_notebook(project, tmp_path / "home", CELLS)
    names = [line.removeprefix("made ") for line in printed.splitlines() if line.startswith("made ")]
    found = [str(one.name) for one in api.log(directory=project).experiments]
    assert len(found) == 2
    assert found[0] in names
    cells, _ = api.read_file(found[0], ".tensortime/cells.py", directory=project)
    first, _ = api.read_file(found[1], ".tensortime/cells.py", directory=project)
    assert cells is not None
    assert first is not None
    text = cells.decode()
    assert text.startswith(f"# In[1]\n{CELLS[0]}\n\n# In[2]\n{CELLS[1]}\n\n# In[3]\napi_key = ")
    assert "# In[4]\nreport = TimeMachine().backup()" in text
    assert (CANARY in text, 'api_key = "***"' in text) == (False, True)
    assert "# In[3]" not in first.decode()
    run = api.show(found[0], directory=project).run
    assert run["notebook"] == {"cells": 4, "path": str(project / "analysis.ipynb")}
    assert isinstance(run["command"], list)
    assert "ipykernel_launcher" in " ".join(run["command"])
    assert not [word for word in run["command"] if word == "-f" or word.endswith(".json")]
    packages, _ = api.read_file(found[0], ".tensortime/packages.txt", directory=project)
    assert b"ipykernel==" in (packages or b"")


HARD = f"{CANARY}9!.pw"
SECRET_CELLS = (
    CELLS[0],
    f"!true --api-key {HARD}\nx = !echo --token {HARD}\n!FOO_TOKEN={HARD} true",
    f"%env WANDB_API_KEY {HARD}\n%env HF_TOKEN={HARD}",
    f"%%bash\nexport COMET_KEY={HARD}\ntrue --password '{HARD}'",
    f"%%sh\ntrue 'Authorization: Basic {CANARY}'",
    f"%run -i model.py --token {HARD}",
    f"hf_token: str = \"{HARD}\"\npassword = '''{HARD}\n{HARD}'''\nsecret = b\"{HARD}\"",
    f'import os\nos.environ.setdefault("HF_TOKEN", "{HARD}")\nos.putenv("A_TOKEN", "{HARD}")',
    f'def login(key): pass\nlogin(key="{HARD}")',
    "report = TimeMachine().backup()\nprint('made', report.experiment)",
)


def test_no_secret_of_a_notebook_gets_into_the_store(tmp_path: Path) -> None:
    """S14: in magics, shell lines, shell cells, variables and texts; what was typed stays readable around them."""
    project, store = tmp_path / "project", tmp_path / "store"
    Tree(project).file("model.py", b"x = 1\n").file(".ttignore", b"*.ipynb\n")
    Tree(project).file("tensortime.toml", f'backup_dir = "{store}"\n'.encode())
    (tmp_path / "home").mkdir()
    printed = run_notebook(project, tmp_path / "home", SECRET_CELLS)
    assert "made " in printed
    cells = api.read_file("@", ".tensortime/cells.py", directory=project)[0]
    assert cells is not None
    for line in (
        "!true --api-key ***",
        "x = !echo --token ***",
        "!FOO_TOKEN=*** true",
        "%env WANDB_API_KEY ***",
        "%%bash",
        "export COMET_KEY=***",
        "%run -i model.py --token ***",
    ):
        assert line in cells.decode().splitlines(), cells.decode()
    found = everything_in(store)
    assert not [place for place, data in found.items() if CANARY.encode() in data]


def test_cells_where_only_their_translation_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """S14: without the history of what was typed there are the calls that IPython makes of magics and shell lines."""
    calls = (
        f"get_ipython().system('true --api-key {HARD}')",
        f"get_ipython().run_line_magic('env', 'WANDB_API_KEY {HARD}')",
        f"get_ipython().run_cell_magic('bash', '', 'export COMET_KEY={HARD}\\n')",
        f"x = get_ipython().getoutput('echo --token {HARD}')",
    )
    fake_shell(monkeypatch, ["", *calls], kernel=True)
    text = notebook_cells()[1].decode()
    assert (CANARY in text, text.count("***")) == (False, len(calls))


def fake_shell(
    monkeypatch: pytest.MonkeyPatch, cells: list[object], *, kernel: bool, **names: object
) -> None:
    """A loaded IPython with these inputs."""
    shell = types.SimpleNamespace(user_ns={"In": cells, **names})
    if kernel:
        shell.kernel = object()
    module = types.ModuleType("IPython")
    module.__dict__["get_ipython"] = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", module)


def test_where_a_notebook_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """As VS Code, ipykernel or the server tells it; left out where nobody does."""
    fake_shell(monkeypatch, ["", "x = 1"], kernel=True)
    assert notebook_cells() == ({"cells": 1}, b"# In[1]\nx = 1\n")
    monkeypatch.setenv("JPY_SESSION_NAME", "served.ipynb")
    fake_shell(monkeypatch, [""], kernel=True)
    assert notebook_cells() == ({"cells": 0, "path": "served.ipynb"}, b"")
    fake_shell(monkeypatch, ["", "1"], kernel=True, __session__="session.ipynb")
    assert notebook_cells()[0] == {"cells": 1, "path": "session.ipynb"}
    fake_shell(monkeypatch, ["", "1"], kernel=True, __session__="s", __vsc_ipynb_file__="/code/vs.ipynb")
    assert notebook_cells()[0] == {"cells": 1, "path": "/code/vs.ipynb"}


def test_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script, also one that IPython runs or that has loaded half of it."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert notebook_cells() == (None, b"")
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    assert notebook_cells() == (None, b"")
    fake_shell(monkeypatch, [""], kernel=False)
    assert notebook_cells() == (None, b"")
    module = types.ModuleType("IPython")
    module.__dict__["get_ipython"] = lambda: None
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert notebook_cells() == (None, b"")


def test_cells_of_any_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a character, no text at all: nothing that a cell holds stops a backup."""
    fake_shell(monkeypatch, ["", "'\ud83d'", 7, "é\n\n"], kernel=True)
    assert notebook_cells()[1] == "# In[1]\n'?'\n\n# In[2]\n7\n\n# In[3]\né\n\n\n".encode()


@pytest.mark.parametrize(
    ("argv", "safe"),
    [
        (
            ["python", "-m", "ipykernel_launcher", "-f", "/r/kernel-1.json"],
            ["python", "-m", "ipykernel_launcher"],
        ),
        (["python", "-m", "ipykernel_launcher", "--f=/r/v3-9.json"], ["python", "-m", "ipykernel_launcher"]),
        (
            ["python", "-m", "colab_kernel_launcher", "-f", "/k.json", "--x"],
            ["python", "-m", "colab_kernel_launcher", "--x"],
        ),
        (["python", "train.py", "-f", "data"], ["python", "train.py", "-f", "data"]),
        (["-f"], ["-f"]),
    ],
)
def test_the_command_of_a_kernel(argv: list[str], safe: list[str]) -> None:
    """Its connection file holds a key, and nobody typed it."""
    assert without_connection(argv) == safe
