"""diff: how far the numbers of outputs lie apart, and which causes stand first."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import Tree
from stores import forge

from tensortime import api, comparison
from tensortime.differences import Causes, DiffReport, FileChange, ValueChange
from tensortime.messages import Translator
from tensortime.render_diff import Style, diff_text
from tensortime.suspects import REASONS, suspects_of

LARGE = 300_000


def npz(**named: object) -> bytes:
    """An npz file."""
    file = io.BytesIO()
    np.savez(file, **{name: np.array(values, "f4") for name, values in named.items()})  # type: ignore[arg-type]
    return file.getvalue()


def run(tree: Tree, name: str, **outputs: bytes) -> None:
    """One experiment: the project, and outputs on top of it."""
    api.backup(directory=tree.root, name=name, ignore=["save"])
    for file, data in outputs.items():
        tree.file("save/" + file.replace("_", "."), data)
    api.backup(directory=tree.root, name=name, add=["save"])


def outputs_of(tree: Tree) -> dict[str, FileChange]:
    """The outputs that differ between `a` and `b`."""
    report = api.diff("a", "b", directory=tree.root)
    return {one.path.removeprefix("save/"): one for one in report.effects.outputs}


def page(report: DiffReport, width: int | None = None) -> str:
    """The text of a diff."""
    return "\n".join(diff_text(report, Style(Translator("en"), width)))


def test_numeric_outputs_are_compared_array_by_array(tmp_path: Path) -> None:
    """Small ones and large ones: the first array that differs, by how much, and how many more there are."""
    tree = Tree(tmp_path / "p").file("train.py", b"1")
    weights = np.zeros(LARGE)
    run(
        tree,
        "a",
        model_npz=npz(w=weights, b=[1, 2], c=[0]),
        m_json=b'{"loss": 0.5}\n',
        n_csv=b"x\n1\n",
        o_txt=b"1\n",
    )
    weights[7] = 0.25
    run(
        tree,
        "b",
        model_npz=npz(w=weights, b=[1, 2.5], c=[0]),
        m_json=b'{"loss": 0.4}\n',
        n_csv=b"x\n1.0\n",
        o_txt=b"2\n",
    )
    found = outputs_of(tree)
    model = found["model.npz"].closeness
    assert model is not None
    assert [(gap.name, gap.max_abs) for gap in model.gaps] == [("w", 0.25), ("b", 0.5)]
    assert (model.max_abs, model.max_rel) == (0.5, 1.0)
    assert found["o.txt"].closeness is None
    shown = page(api.diff("a", "b", directory=tree.root))
    assert "w differs by 0.25 (relative 1), and 1 more" in shown
    assert "+1 -1  loss differs by 0.1 (relative 0.2)" in shown
    assert "save/n.csv      every number is equal" in shown


def test_causes_are_not_compared_as_numbers(tmp_path: Path) -> None:
    """Data that a run reads is what it is: only what came of it is measured."""
    tree = Tree(tmp_path / "p").file("data.json", b"[1]")
    api.backup(directory=tree.root, name="a")
    tree.file("data.json", b"[2]")
    api.backup(directory=tree.root, name="b")
    assert [one.closeness for one in api.diff("a", "b", directory=tree.root).causes.data or ()] in (
        [],
        [None],
    )
    assert page(api.diff("a", "b", directory=tree.root)).count("differs by") == 0


def test_the_project_as_it_is_now_is_compared_too(tmp_path: Path) -> None:
    """An output that was overwritten since, large or small."""
    tree = Tree(tmp_path / "p").file("train.py", b"1")
    run(tree, "a", model_npz=npz(w=np.zeros(LARGE)), m_json=b"[1]")
    tree.file("save/model.npz", npz(w=np.ones(LARGE))).file("save/m.json", b"[2]")
    report = api.diff("a", directory=tree.root)
    assert [one.closeness.max_abs for one in report.effects.outputs if one.closeness] == [1.0, 1.0]


def test_what_takes_too_long_is_not_compared_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the bound of all outputs together: its size, and that it was not looked at."""
    tree = Tree(tmp_path / "p").file("train.py", b"1")
    run(tree, "a", m_json=b"[1, 2]", n_json=b"[1]")
    run(tree, "b", m_json=b"[1, 3]", n_json=b"[2]")
    monkeypatch.setattr(comparison, "MOST_NUMBERS", 8)
    found = outputs_of(tree)
    assert (found["m.json"].too_large, found["n.json"].too_large) == (True, False)
    assert "6 B, too large to compare its numbers" in page(api.diff("a", "b", directory=tree.root))


# --- which causes stand first


def change(key: str) -> ValueChange:
    """A value that differs."""
    return ValueChange(key, "changed", 1, 2)


def test_causes_stand_in_the_order_in_which_they_explain() -> None:
    """What is computed before what computes it, and that before where it ran."""
    causes = Causes(
        params=(change("lr"),),
        packages=(
            change("click"),
            change("numpy"),
            change("nvidia-cublas-cu12"),
            change("pytorch-lightning"),
        ),
        code=(FileChange("train.py", "changed"),),
        data=(FileChange("x.csv", "changed"),),
        environment=tuple(
            map(
                change,
                (
                    "python.version",
                    "PYTHONHASHSEED",
                    "OMP_NUM_THREADS",
                    "CUDA_VISIBLE_DEVICES",
                    "git.head",
                    "HF_HOME",
                ),
            )
        ),
        machine=(change("host"), change("cpu"), change("gpus"), change("drivers.nvidia")),
    )
    ranked = [(one.key, one.reason) for one in suspects_of(causes)]
    assert ranked == [
        ("train.py", "code"),
        ("lr", "told"),
        ("x.csv", "data"),
        *((name, "numeric") for name in ("numpy", "nvidia-cublas-cu12", "pytorch-lightning")),
        ("PYTHONHASHSEED", "switches"),
        *((name, "gpu") for name in ("CUDA_VISIBLE_DEVICES", "gpus", "drivers.nvidia")),
        ("python.version", "python"),
        *((name, "cpu") for name in ("OMP_NUM_THREADS", "cpu")),
        ("click", "package"),
        ("HF_HOME", "variable"),
        *((name, "place") for name in ("git.head", "host")),
    ]
    assert {reason for _, reason in ranked} == set(REASONS)


def lab(tmp_path: Path, runs: dict[str, dict[str, Any]], **params: float) -> DiffReport:
    """A diff of two forged experiments `a` and `b`."""
    root = Tree(tmp_path / "p").file("train.py").root
    api.backup(directory=root)
    for name, facts in runs.items():
        meta = {b"run.json": json.dumps({"python": {"version": "3.11.1"}, **facts}).encode()}
        forge(
            root,
            name,
            [],
            meta=meta,
            params={"lr": params.get(name, 1)},
            metrics={"loss": len(name) + params.get(name, 0)},
        )
    return api.diff("a", "b", directory=root)


def test_the_page_names_the_likeliest_causes(tmp_path: Path) -> None:
    """Below the effects, three of them with the reason; an option that is a parameter is said once."""
    report = lab(
        tmp_path,
        {
            "a": {"command": ["python", "t.py", "--lr", "1"], "host": "x"},
            "b": {
                "command": ["python", "t.py", "--lr", "2"],
                "host": "y",
            },
        },
        b=2,
    )
    shown = page(report).split("LIKELIEST\n")[1].split("\n\n")[0].splitlines()
    assert [line.split()[:2] for line in shown] == [["params", "lr"], ["machine", "host"]]
    assert shown[0].endswith("the run was told something else")


def test_no_cause_is_cut_off_from_others_as_likely(tmp_path: Path) -> None:
    """Which of the params it was nobody knows: the first three of the alphabet are no likelier than the others."""
    names = [f"p{letter}" for letter in "abcdefghijklmn"]
    first, second = ([word for name in names for word in (f"--{name}", value)] for value in "12")
    report = lab(
        tmp_path,
        {"a": {"command": ["t.py", *first], "host": "x"}, "b": {"command": ["t.py", *second], "host": "y"}},
        b=2,
    )
    shown = page(report).split("LIKELIEST\n")[1].split("\n\n")[0].splitlines()
    assert [line.split()[1] for line in shown[:10]] == [f"--{name}" for name in names[:10]]
    assert shown[10].strip() == "… and 5 more", "four options and the parameter b"


def test_one_cause_needs_no_order(tmp_path: Path) -> None:
    """Nor do causes without an effect."""
    assert "LIKELIEST" not in page(lab(tmp_path, {"a": {}, "b": {}}, b=2))
