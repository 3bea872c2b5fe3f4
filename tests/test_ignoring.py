"""ignoring.py: whose rule decides, what a line means, and that git agrees. CASES B25."""

import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from builders import Tree

from tensortime.ignoring import Matcher, Rules
from tensortime.scan import scan


def stored(root: Path, config: Iterable[str] = (), ignore: Iterable[str | os.PathLike[str]] = ()) -> set[str]:
    """The files of a project that are stored."""
    found = scan(str(root), Rules.start(config, ignore, str(root)))
    return {os.fsdecode(file.path) for file in found.files} - {".ttignore", "model/.ttignore", "a/.ttignore"}


def rule_of(path: bytes, rules: Rules, is_folder: bool = False) -> str | None:
    """What leaves out one entry."""
    return rules.decide(path, path.rpartition(b"/")[2], is_folder)


# Whose rule decides


def test_a_project_without_rules_is_stored_whole(tmp_path: Path) -> None:
    """Also what .gitignore hides: that is where data and weights are."""
    Tree(tmp_path).file(".gitignore", b"*\n").file("data/x.bin").file("wandb/run/log").file(".hidden")
    assert stored(tmp_path) == {".gitignore", "data/x.bin", "wandb/run/log", ".hidden"}


def test_the_deepest_and_last_rule_decides() -> None:
    """Built-in < config < `.ttignore` from shallow to deep < argument."""
    rules = Rules.start(["*.a", "*.b"], ["!x.d"])
    top = rules.enter(b"", b"!*.b\n*.c\n*.d\n")
    deep = top.enter(b"model", b"!*.c\n*.d\n")
    assert rule_of(b"model/x.a", deep) == "config: *.a"
    assert rule_of(b"model/x.b", deep) is None
    assert rule_of(b"x.c", top) == ".ttignore:2 *.c"
    assert rule_of(b"model/x.c", deep) is None
    assert rule_of(b"model/y.d", deep) == "model/.ttignore:2 *.d"
    assert rule_of(b"model/x.d", deep) is None


def test_a_rule_is_named_as_a_person_finds_it() -> None:
    """File and line, config, argument or built-in."""
    rules = Rules.start(["*.tmp"], ["data"]).enter(b"", b"# logs\n\n*.log  \n").enter(b"model", b"*.pt\n")
    assert rule_of(b"model/x.tmp", rules) == "config: *.tmp"
    assert rule_of(b"model/data", rules, True) == "ignore: data"
    assert rule_of(b"model/x.log", rules) == ".ttignore:3 *.log"
    assert rule_of(b"model/x.pt", rules) == "model/.ttignore:1 *.pt"
    assert rule_of(b"__pycache__", rules, True) == "built-in: __pycache__"
    assert rule_of(b".env", rules) == "built-in (secret): .env"


def test_an_exclamation_mark_reopens_what_is_built_in(tmp_path: Path) -> None:
    """By file, by config and by argument."""
    Tree(tmp_path).file(".env").file("id_rsa").file("__pycache__/x.pyc").file("sub/.git/HEAD").file("x.pem")
    Tree(tmp_path).file(".ttignore", b"!.env\n!__pycache__\n")
    assert stored(tmp_path, ["!id_rsa"], ["!.git"]) == {
        ".env",
        "id_rsa",
        "__pycache__/x.pyc",
    }


def test_git_folders_and_our_own_are_never_reopened(tmp_path: Path) -> None:
    """A restore puts no `.git` anywhere, it could run programs; and `.tensortime` is a place that restore writes."""
    Tree(tmp_path).file(".git/config").file("sub/.git/HEAD").file(".tensortime/manifest").file("a.py")
    assert stored(tmp_path, ["!*"], ["!.git", "!/.git/", "!**", "!.tensortime"]) == {"a.py"}


def test_what_lies_in_a_folder_left_out_is_not_asked_about(tmp_path: Path) -> None:
    """As with git: the folder itself has to be reopened."""
    tree = Tree(tmp_path).file("out/keep.bin").file("out/x").file("runs/keep.bin").file("runs/x")
    tree.file(".ttignore", b"out\n!out/keep.bin\nruns/*\n!runs/keep.bin\n")
    assert stored(tmp_path) == {"runs/keep.bin"}
    assert stored(tmp_path, ignore=["!out"]) == {"runs/keep.bin", "out/keep.bin", "out/x"}


def test_the_patterns_that_people_write(tmp_path: Path) -> None:
    """A file below the top, a name at any depth, an exception."""
    tree = Tree(tmp_path).file("model/cnlp.py").file("model/other.py").file("deep/model/cnlp.py")
    tree.file("cache/a").file("x/cache/a").file("x/y/cache/a").file("a.bin").file("x/keep.bin").file(
        "x/b.bin"
    )
    tree.file(".ttignore", b"model/cnlp.py\n**/cache\n*.bin\n!keep.bin\n")
    assert stored(tmp_path) == {"model/other.py", "deep/model/cnlp.py", "x/keep.bin"}


def test_a_nested_file_speaks_about_its_own_folder(tmp_path: Path) -> None:
    """`/x` is the one beside it."""
    tree = Tree(tmp_path).file("x").file("model/x").file("model/deep/x").file("model/deep/y.pt").file("y.pt")
    tree.file("model/.ttignore", b"/x\ndeep/*.pt\n")
    assert stored(tmp_path) == {"x", "model/deep/x", "y.pt"}


def test_a_name_of_0_1_0_means_every_folder_of_that_name(tmp_path: Path) -> None:
    """0.1.0's `data` was the top one; gitignore's meaning holds now, and `/data` is the old one."""
    Tree(tmp_path).file("data/x").file("src/data/loader.py").file("a.py")
    assert stored(tmp_path, ignore=["data"]) == {"a.py"}
    assert stored(tmp_path, ignore=["data/", ".git/"]) == {"a.py"}
    assert stored(tmp_path, ignore=["/data"]) == {"a.py", "src/data/loader.py"}


def test_a_slash_at_the_end_means_folders_alone(tmp_path: Path) -> None:
    """A link to a folder is no folder, as with git."""
    Tree(tmp_path).file("data/x").file("sub/data").symlink("s/data", "../sub")
    assert stored(tmp_path, ignore=["data/"]) == {"sub/data"}
    assert [link.path for link in scan(str(tmp_path), Rules.start((), ["data/"])).links] == [b"s/data"]


@pytest.mark.parametrize("entry", ["./data", "./data/", ".//data", "././data", "{root}/data", Path("/data")])
def test_a_path_in_the_argument_means_what_the_person_means(tmp_path: Path, entry: str | Path) -> None:
    """The one at the top, named from here or from the root."""
    Tree(tmp_path).file("data/x").file("src/data/loader.py")
    given = entry.format(root=tmp_path) if isinstance(entry, str) else entry
    assert stored(tmp_path, ignore=[given]) == {"src/data/loader.py"}


def test_the_argument_takes_texts_and_paths_alone() -> None:
    """One text instead of a list would be its letters."""
    with pytest.raises(TypeError, match="not int"):
        Rules.start((), [3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="not one text"):
        Rules.start((), "data")


# What a line means


@pytest.mark.parametrize(
    ("line", "leaves_out", "stores"),
    [
        (b"\xef\xbb\xbf*.log\r\n", [b"a.log"], [b"a.log\r"]),
        (b"a\\ ", [b"a "], [b"a"]),
        (b"a  ", [b"a"], [b"a  "]),
        (b"a\t", [b"a\t"], [b"a"]),
        (b"\\#a", [b"#a"], [b"a"]),
        (b"\\!a", [b"!a"], [b"a"]),
        (b"[[:alpha:]]1", [b"a1", b"Z1"], [b"11", b"\xc3\xa41"]),
        (b"[a\\-z]", [b"a", b"-", b"z"], [b"b", b"\\"]),
        (b"[]-a]", [b"]", b"^", b"a"], [b"b", b"-"]),
        (b"[^a]", [b"b"], [b"a"]),
        (b"[z-a]", [b"z"], [b"a", b"m"]),
        (b"/a[^b]c", [b"axc"], [b"a/c"]),
        (b"?", [b"a", b"\xe9"], [b"\xc3\xa9", b"ab"]),
        (b"/a**/b", [b"a/b", b"ax/b", b"ab", b"ax/y/b"], [b"b"]),
        (b"/a**/**/b", [b"a/b", b"ab", b"ax/y/b"], [b"b", b"axb"]),
        (b"x/**\\/b", [b"x/y/b", b"x/y/z/b"], [b"x/b"]),
        (b"a/**", [b"a/x"], [b"a"]),
        (b"**/b", [b"b", b"x/b", b"x/y\n/b"], [b"xb"]),
        (b"x?", [b"x\xa0", b"x\n"], [b"x", b"x\xa0\n"]),
        (b"?\xc3\xa0", [b"x\xc3\xa0"], [b"x\xc3"]),
        (b"a.b*", [b"a.b", b"a.bc"], [b"axb"]),
    ],
)
def test_a_line_means_what_it_means_to_git(line: bytes, leaves_out: list[bytes], stores: list[bytes]) -> None:
    """Each of these is read otherwise by somebody: by `re`, by pathspec, or by Windows."""
    rules = Rules.start().enter(b"", line)
    assert not rules.broken
    assert [path for path in leaves_out if rule_of(path, rules) is None] == []
    assert [path for path in stores if rule_of(path, rules) is not None] == []


def test_a_file_name_is_no_text() -> None:
    """Bytes that are not UTF-8 match themselves, and a rule shows them as surrogate escapes."""
    rules = Rules.start().enter(b"", b"latin\xe9\n")
    assert rule_of(b"latin\xe9", rules) == ".ttignore:1 latin\udce9"
    assert rule_of(b"latin\xc3\xa9", rules) is None


@pytest.mark.parametrize("line", [b"", b"   ", b"# a comment", b"\r"])
def test_empty_lines_and_comments_are_no_patterns(line: bytes) -> None:
    """And not broken either."""
    assert Rules.start().enter(b"", line) == Rules()


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"!",
            b"/",
            b"!/",
            b"\\",
            b"a\\",
            b"a\\/",
            b"[",
            b"a[b",
            b"[]",
            b"[!]",
            b"[a\\",
            b"[a-",
            b"[[:alpha:]",
        ),
        *(b"[[:foo:]]", b"[[::]]", b"[/]", b"a//b", b"//a", b"./a", b"a/../b", b"..", b"nul\0byte"),
    ],
)
def test_a_pattern_that_can_match_nothing_is_named_and_skipped(tmp_path: Path, line: bytes) -> None:
    """With file and line; the lines around it hold."""
    Tree(tmp_path).file("model/a.log").file("model/a").file("model/.ttignore", b"*.log\n" + line + b"\n*.x\n")
    found = scan(str(tmp_path), Rules.start())
    assert [file.path for file in found.files if file.path != b"model/.ttignore"] == [b"model/a"]
    [broken] = found.broken
    assert (broken.where, os.fsencode(broken.pattern)) == ("model/.ttignore:2", line)
    assert broken.problem


def test_a_broken_entry_of_the_argument_or_the_config_is_named() -> None:
    """By where it came from."""
    rules = Rules.start(["a//b", "*.tmp"], ["", "#x", "../data", "\\", "ok"])
    assert [(broken.where, broken.pattern) for broken in rules.broken] == [
        ("config", "a//b"),
        ("ignore", ""),
        ("ignore", "#x"),
        ("ignore", "../data"),
        ("ignore", "\\"),
    ]
    assert rule_of(b"x.tmp", rules) == "config: *.tmp"
    assert rule_of(b"ok", rules) == "ignore: ok"


@pytest.mark.parametrize("kind", ["link", "folder", "fifo", "huge"])
def test_a_ttignore_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    """Then more is stored, never less."""
    tree = Tree(tmp_path).file("a.log").file("rules", b"*.log\n")
    match kind:
        case "link":
            tree.symlink(".ttignore", "rules")
        case "folder":
            tree.folder(".ttignore")
        case "fifo":
            tree.fifo(".ttignore")
        case "huge":
            tree.file(".ttignore", b"*.log\n" * 200_000)
    found = scan(str(tmp_path), Rules.start())
    assert b"a.log" in {file.path for file in found.files}
    assert [broken.where for broken in found.broken] == [".ttignore"]


def test_plain_patterns_need_no_pathspec() -> None:
    """It costs 50 ms to import; most files hold names and `*.ending` alone."""
    code = """if 1:
        import sys
        from tensortime.ignoring import Rules
        Rules.start(["*.tmp", "*"], ["data/", "/out", "a/b", "!keep.bin"]).enter(b"", b"wandb\\n[x\\n")
        assert "pathspec" not in sys.modules
        Rules.start((), ["a?b"])
        assert "pathspec" in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_list_of_patterns_chooses_paths() -> None:
    """`hardlink` and `follow`: the same syntax, a folder covers what lies in it."""
    chosen = Matcher.of("hardlink", ["data/", "*.bin", "!small.bin", "["])
    paths = [b"data/x/y", b"a/b.bin", b"small.bin", b"data", b"x"]
    assert [path for path in paths if chosen.covers(path)] == [b"data/x/y", b"a/b.bin"]
    assert [(broken.where, broken.pattern) for broken in chosen.broken] == [("hardlink", "[")]
    assert not Matcher.of("follow", []).covers(b"x")


# git agrees

RULE_SETS = 1200

PIECES = [
    *(
        b"a",
        b"b",
        b"ab",
        b"c",
        b"*",
        b"*",
        b"**",
        b"***",
        b"?",
        b"/",
        b"/",
        b"/",
        b"/**/",
        b"**/",
        b"/**",
        b"\\/",
    ),
    *(b"[ab]", b"[!a]", b"[^b]", b"[a-c]", b"[[:alpha:]]", b"[[:digit:]]", b"[[:punct:]]", b"[[:space:]]"),
    *(b"[^[:alnum:]]", b"[[:foo:]]", b"[[:alpha:", b"[[:]a]", b"[[::]]", b"[a\\-z]", b"[]-a]", b"[]", b"["),
    *(
        b"[!]a]",
        b"[a/b]",
        b"[z-a]",
        b"[[:alpha:]-z]",
        b"[a-c-z]",
        b"[--b]",
        b"[\\]]",
        b"[a-\\c]",
        b"[-a]",
        b"[a-]",
    ),
    *(
        b"\\",
        b"\\*",
        b"\\ ",
        b"\\a",
        b" ",
        b"#",
        b"!",
        b".",
        b"..",
        b"]",
        b"-",
        b"\t",
        b"$",
        b"(",
        b"|",
        b"+",
        b"^",
    ),
    *(b"\xc3\xa0", b"\xe9", b"[\xe0-\xff]", b"{a,b}"),
]
PATHS = [
    *(b"a/a", b"a/b/a", b"a/b/c", b"a/b/ab", b"a/c", b"a/\xc3\xa0", b"b/a/b", b"b/ab", b"b/c/b/a", b"b/ x"),
    *(
        b"aab/b/a",
        b"aab/x\ny/b",
        b"ac/ab",
        b"ac/b",
        b"[a/b]",
        b"ab",
        b"c",
        b"\\",
        b"*",
        b"[",
        b"]",
        b"-",
        b"1",
    ),
    *(
        b"a\n",
        b"\xc3\xa0",
        b"\xe9",
        b" ",
        b"#a",
        b"!a",
        b"a.b",
        b"a ",
        b"a-",
        b"z",
        b"$",
        b"{a,b}",
        b"^",
        b"x\ty",
    ),
]
FOLDERS = [b"a/", b"b/", b"a/b/"]


def a_pattern(chance: random.Random) -> bytes:
    """One line, rarely a sensible one."""
    text = b"".join(chance.choice(PIECES) for _ in range(chance.choice([1, 1, 2, 2, 3, 3, 4, 5])))
    text = b"!" * (chance.random() < 0.25) + b"/" * (chance.random() < 0.15) + text
    return text + b"/" * (chance.random() < 0.2) + chance.choice([b""] * 15 + [b" ", b"  ", b"\r"])


def a_rule_set(chance: random.Random) -> dict[bytes, bytes]:
    """The files with rules of one project: at the top, and here and there below."""
    below = [folder for folder in FOLDERS if chance.random() < 0.25]
    start = chance.choice([b"", b"", b"", b"\xef\xbb\xbf"])
    return {
        folder: start + b"".join(a_pattern(chance) + b"\n" for _ in range(chance.choice([1, 1, 2, 3, 4])))
        for folder in [b"", *below]
    }


def what_git_ignores(root: Path, paths: list[bytes]) -> set[bytes]:
    """Asked of git itself, with nobody's configuration."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "init", "-q", "--template="], cwd=root, env=env, check=True)
    command = ["git", "check-ignore", "--no-index", "--stdin", "-z"]
    given = b"".join(path + b"\0" for path in paths)
    return set(
        subprocess.run(command, cwd=root, env=env, input=given, stdout=subprocess.PIPE).stdout.split(b"\0")
    )


def test_git_agrees_about_random_rules(tmp_path: Path) -> None:
    """B25: what `.ttignore` leaves out is what git ignores, never more. and never less. No difference is known."""
    chance = random.Random(25)
    sets = [a_rule_set(chance) for _ in range(RULE_SETS)]
    names = [b"s%04d/" % number for number in range(RULE_SETS)]
    for name, rules in zip(names, sets, strict=True):
        tree = Tree(os.path.join(tmp_path, os.fsdecode(name)))
        for path in PATHS:
            tree.file(path)
        for folder, lines in rules.items():
            tree.file(folder + b".gitignore", lines).file(folder + b".ttignore", lines)
    ignored = what_git_ignores(tmp_path, [name + path for name in names for path in PATHS])
    assert 0.05 < len(ignored) / (RULE_SETS * len(PATHS)) < 0.95
    for name, rules in zip(names, sets, strict=True):
        found = scan(os.path.join(os.fsencode(tmp_path), name), Rules.start())
        ours = {file.path for file in found.files if not file.path.endswith((b".gitignore", b".ttignore"))}
        gits = {path for path in PATHS if name + path not in ignored}
        assert ours == gits, f"{rules}: only here {ours - gits}, only in git {gits - ours}"
