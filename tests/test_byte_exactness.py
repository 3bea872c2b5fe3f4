"""What was backed up comes back: every byte, name, type, mode and link target, whatever a project holds.

One project a case, backed up and restored with real git in the sealed world of conftest.py. CASES B01 to B27.
"""

import os
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree, run_cli, snapshot_of, user_git
from conftest import World
from round_trips import OWN, THRESHOLD, assert_round_trip, contents, manifest_of

from tensortime import api
from tensortime.formats import LONGEST_PATH

HOSTILE_LINE = "filter=lfs text eol=crlf ident working-tree-encoding=UTF-16"
TEXTS = {
    "crlf.csv": b"1,2\r\n3,4\r\n",
    "lf.csv": b"1,2\n3,4\n",
    "mixed.csv": b"1\r\n2\n3\r4",
    "ident.csv": b"$Id$ $Id: not ours$\n$Format:%H %an$\n",
    "utf16.csv": b"\xff\xfe1\x00\n\x00",
    "nul.csv": b"\0\r\n\x1a\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project with one file that always is there."""
    return Tree(tmp_path / "project").file("train.py", b"print('training')\n")


def in_git(tree: Tree) -> dict[str, int]:
    """The files that git carries of the backup, and their sizes; not `.tensortime`."""
    rows = user_git(
        "ls-tree", "-r", "-l", "-z", "refs/experiments/exp", cwd=tree.root / "tensortime" / ".shadow"
    )
    items = [row.partition("\t") for row in rows.split("\0") if row]
    return {path: int(head.split()[3]) for head, _, path in items if not path.startswith(".tensortime/")}


def with_texts(tree: Tree, folder: str = "") -> Tree:
    """Files that every filter and every line-ending rule would change."""
    for name, data in TEXTS.items():
        tree.file(os.path.join(folder, name), data)
    return tree


@pytest.mark.parametrize("in_repository", [False, True], ids=["plain-folder", "git-repository"])
def test_attributes_and_filters_never_touch_bytes(project: Tree, world: World, in_repository: bool) -> None:
    """B01: a project's .gitattributes asks for a filter, CRLF, $Id$ and UTF-16; nothing of it happens."""
    with_texts(project).file(".gitattributes", f"*.csv {HOSTILE_LINE}\n".encode())
    if in_repository:
        user_git("init", "--quiet", cwd=project.root)
        for role in ("clean", "smudge", "process"):
            user_git("config", f"filter.lfs.{role}", f"{world.home}/bin/{role}", cwd=project.root)
        project.file(".git/info/attributes", f"* {HOSTILE_LINE}\n".encode())
    assert_round_trip(project)


def test_global_git_configuration_is_not_read(project: Tree) -> None:
    """B02: autocrlf, a global attributes file and an excludes file of `*` change no byte and leave out no file."""
    user_git("init", "--quiet", cwd=project.root)
    for key in ("core.autocrlf=true", "core.eol=crlf", "core.safecrlf=true", "core.fileMode=false"):
        user_git("config", *key.split("="), cwd=project.root)
    with_texts(project, "data").file("run.sh", b"#!/bin/sh\r\n", mode=0o755).file(".gitignore", b"*\n")
    assert run_cli("backup", "--name", "exp", cwd=project.root).returncode == 0
    assert run_cli("restore", "exp", "../restored", cwd=project.root).returncode == 0
    assert_same_tree(contents(project), project.root.parent / "restored")


def test_attributes_of_any_depth_and_size_lose(project: Tree) -> None:
    """B03: nested .gitattributes, a macro, a line past git's limit, files of 0.9 and 10 MB: all only bytes."""
    macro, long_line = b"[attr]x filter=lfs text\n*.csv x\n", b"*.csv " + b"text " * 600 + b"\n"
    line = f"*.csv {HOSTILE_LINE}\n".encode()
    for folder, data in {
        "nested": b"* text eol=crlf\n",
        "nested/macro": macro,
        "long": long_line + line,
        "small": line * (900_000 // len(line)),
        "huge": line * (10_000_000 // len(line)),
    }.items():
        with_texts(project, folder).file(folder + "/.gitattributes", data)
    assert_round_trip(project)


def test_archive_attributes_do_not_count(project: Tree) -> None:
    """B04: files marked export-ignore and export-subst come back, and unexpanded."""
    with_texts(project).file(".gitattributes", b"* export-subst\nlf.csv export-ignore\nsub export-ignore\n")
    with_texts(project, "sub")
    assert_round_trip(project)


def test_required_clean_and_smudge_whose_program_is_absent(project: Tree) -> None:
    """B05: a required lfs filter whose program is absent neither fails a backup nor shows a word of git's."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    project.file(".gitattributes", b"*.bin filter=lfs diff=lfs merge=lfs -text\n").file(
        "pointer.bin", pointer
    )
    project.file("small.bin", b"\r\n\0").file("large.bin", size=THRESHOLD + 5)
    user_git("init", "--quiet", cwd=project.root)
    for key, value in (("required", "true"), ("process", "/nonexistent/git-lfs filter-process")):
        user_git("config", f"filter.lfs.{key}", value, cwd=project.root)
    for words in (["backup", "--name", "exp"], ["restore", "exp", "../restored"]):
        done = run_cli(*words, cwd=project.root)
        said = done.stderr.lower() + done.stdout.lower()
        assert done.returncode == 0 and not any(
            word in said for word in ("lfs", "filter", "warning", "fatal", "error")
        )
    assert_same_tree(contents(project), project.root.parent / "restored")


AWKWARD = (
    *(
        b"new\nline",
        b"tab\there",
        b'quote"',
        b"back\\slash",
        b"-rf",
        b"--help",
        b" leading",
        b"trailing ",
        b"*",
    ),
    *(
        b"?",
        b"[x]",
        b"a:b",
        b"C:col",
        b"#comment",
        b"!negated",
        b"~",
        b"$HOME",
        b"%s",
        b"a=b",
        b"\x01\x1b[31m\x7f",
    ),
    *(b"...", b"..a", b"a..b", b"@", b"HEAD", b"refs", b"x.lock", b"con", b"nul.txt", b":(exclude)a", b"\\"),
)
ENCODINGS = (
    *(
        b"latin\xe9",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        "\N{PARTY POPPER}".encode(),
        "e\N{COMBINING ACUTE ACCENT}".encode(),
    ),
    *("\N{LATIN SMALL LETTER E WITH ACUTE}".encode(), "数据".encode(), "a\N{NO-BREAK SPACE}b".encode()),
    *(
        b"a",
        b"A",
        b"Dir",
        b"dir",
        "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe".encode(),
        "\N{LINE SEPARATOR}".encode(),
    ),
)


@pytest.mark.parametrize("names", [AWKWARD, ENCODINGS], ids=["B06-awkward", "B07-B08-encodings"])
def test_every_name_that_the_kernel_allows(project: Tree, names: tuple[bytes, ...]) -> None:
    """B06, B07, B08: any name works for a small file, a large file, a link, an empty and a full folder."""
    for name in names:
        project.file(b"small/" + name, name).file(b"large/" + name, name * (THRESHOLD // len(name) + 1))
        project.symlink(b"links/" + name, name).folder(b"empty/" + name).file(b"full/" + name + b"/x", b"1")
    project.file(names[0], b"at the top").folder(b"top-" + names[1])
    restored = assert_round_trip(project)
    status = user_git("status", "--porcelain", cwd=restored)
    assert status == "", "git status in a worktree is clean"


def test_control_bytes_of_a_name_never_reach_the_terminal(project: Tree) -> None:
    """B06: a left-out entry called by an escape sequence is named without it."""
    project.file(b"evil\x1b]0;title\x07\nline", b"").file(".ttignore", b"evil*\n")
    done = run_cli("backup", cwd=project.root)
    assert done.returncode == 0 and "evil" in done.stdout + done.stderr
    assert not set("\x1b\x07") & set(done.stdout + done.stderr)


def long_path(length: int) -> bytes:
    """A path of so many bytes whose components are short enough."""
    parts = []
    while length > 255:
        parts.append(b"d" * 200)
        length -= 201
    return b"/".join([*parts, b"f" * length])


def make_deep(tree: Tree, path: bytes, data: bytes = b"") -> None:
    """A file that is made folder by folder: no absolute path could name it."""
    *folders, name = path.split(b"/")
    fd = os.open(tree.root, os.O_RDONLY)
    for folder in folders:
        if folder not in map(os.fsencode, os.listdir(fd)):
            os.mkdir(folder, dir_fd=fd)
        below = os.open(folder, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=fd), "wb") as file:
        file.write(data)
    os.close(fd)


def test_longest_names_and_deepest_folders(project: Tree) -> None:
    """B09, B10: components of 255 bytes in any role, and 60 levels, come back."""
    longest = b"n" * 255
    project.file(longest, b"small").file(b"large/" + longest, size=THRESHOLD).symlink(
        b"links/" + longest, longest
    )
    project.folder(b"empty/" + longest).file(longest[:-1] + b"/" + longest + b"/x", b"below")
    project.file("/".join(["level"] * 60) + "/x", b"deep").folder("/".join(["hollow"] * 60))
    assert_round_trip(project)


def test_longest_path_is_stored_and_restored_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B09: the longest path is stored and restored also where the folders above put it past the kernel's limit."""
    store, deep = tmp_path / "store", Tree(tmp_path / ("r" * 200) / ("s" * 200)).root
    project = Tree(deep / "project")
    make_deep(project, long_path(LONGEST_PATH), b"small")
    make_deep(project, long_path(LONGEST_PATH - 1), bytes(THRESHOLD))
    report = api.backup(directory=project.root, store=store, name="exp")
    assert (report.small, report.large, report.skipped) == (1, 1, ())
    api.restore("exp", deep / "restored", directory=project.root, store=store)
    monkeypatch.chdir(project.root)
    before = snapshot_of(".")
    monkeypatch.chdir(deep / "restored")
    assert_same_tree(before, ".")


def test_path_that_is_too_long_is_named_at_backup(project: Tree) -> None:
    """B09: a path that no restore could make is skipped with the reason, and all else comes back."""
    project.file("kept", b"1")
    before = contents(project)
    path = long_path(LONGEST_PATH + 1)
    make_deep(project, path)
    report = api.backup(directory=project.root, name="exp")
    assert [one.path for one in report.skipped] == [path.decode()] and "longer" in report.skipped[0].reason
    assert report.exit_code == 3
    restored = api.restore("exp", project.root.parent / "restored", directory=project.root)
    found = snapshot_of(restored.path, exclude=OWN)
    assert {name: found[name] for name in before} == before


DISGUISES = (
    *(
        b".GIT",
        b".Git",
        b"git~1",
        b"GIT~2",
        b".git ",
        b".git.",
        b".git. .",
        b".git::$INDEX_ALLOCATION",
        b".git:x",
    ),
    *(
        ".g\u200cit".encode(),
        ".git\ufeff".encode(),
        "\u202e.git".encode(),
        b"gi7eba~1",
        b".gitmodules ",
        b"gitmod~1",
    ),
    *(b"a\\.git", b".git\\x", b"git~1\\y"),
    *(b"git~1 ", b".git...", b"git~10", b".git~1", b"GI7EBA~12", "\u200f.g\u200ei\u200dt".encode()),
)


@pytest.mark.parametrize("role", ["file", "large", "folder", "empty", "link", "program"])
def test_names_that_git_refuses(project: Tree, role: str) -> None:
    """B13: `.git` under every disguise that git refuses to check out comes back, as a file, a folder or a link."""
    for name in DISGUISES:
        match role:
            case "file":
                project.file(name, name).file(b"sub/" + name, name)
            case "large":
                project.file(name, size=THRESHOLD)
            case "folder":
                project.file(name + b"/config", name).file(name + b"/a/b", b"deep").symlink(
                    name + b"/l", b"config"
                )
            case "empty":
                project.folder(name).folder(b"sub/" + name)
            case "link":
                project.symlink(name, b"../" + name).symlink(b"sub/" + name, b"x")
            case "program":
                project.file(name, b"#!/bin/sh\n", mode=0o755)
    assert_round_trip(project)


SPECIAL = (".gitmodules", ".gitattributes", ".gitignore", ".mailmap")


def test_hostile_gitmodules_is_a_file_like_any_other(project: Tree, world: World) -> None:
    """B14: a .gitmodules made to run a program is stored, restored, and nothing is fetched."""
    text = f'[submodule "../../x"]\n\tpath = -x\n\turl = --upload-pack={world.home}/bin/ssh\n\tupdate = !{world.home}/bin/ssh\n'
    project.file(".gitmodules", text.encode()).file("sub/.gitmodules", text.encode()).file("-x/file", b"1")
    assert_round_trip(project)


def test_links_in_place_of_the_files_that_git_reads(project: Tree) -> None:
    """B14: .gitignore, .gitattributes, .gitmodules and .mailmap that are links come back as links."""
    project.file("list", b"*\n")
    for name in (*SPECIAL, *(special.upper() for special in SPECIAL), "gitign~1", "gi250a~1"):
        project.symlink(name, "list").symlink("sub/" + name, "/etc/passwd")
    assert_round_trip(project)


def test_sizes_around_the_threshold(project: Tree) -> None:
    """B27: one byte under the threshold is git's, from the threshold on it is an object; never both, never none."""
    for size in (THRESHOLD - 1, THRESHOLD, THRESHOLD + 1):
        project.file(f"data/{size}", size=size)
    restored = assert_round_trip(project)
    objects = {entry["path"] for entry in manifest_of(restored).values() if entry["kind"] == "file"}
    assert objects == {f"data/{THRESHOLD}", f"data/{THRESHOLD + 1}"}
    assert in_git(project) == {"train.py": 18, f"data/{THRESHOLD - 1}": THRESHOLD - 1}
    stored = (project.root / "tensortime" / ".objects").rglob("*")
    assert sorted(path.stat().st_size for path in stored if path.is_file()) == [THRESHOLD, THRESHOLD + 1]
