"""config.py: defaults without a file, and one clear line for everything that is wrong in one."""

import subprocess
import sys
from pathlib import Path

import pytest

from tensortime.config import DEFAULT_LARGE_SIZE, HIGHEST_LARGE_SIZE, KEYS, Config, load_config, parse_size
from tensortime.errors import BadConfig


def own(folder: Path, text: str) -> str:
    """A project with this `tensortime.toml`."""
    (folder / "tensortime.toml").write_text(text, "utf-8")
    return str(folder)


def shared(folder: Path, text: str) -> str:
    """A project with this `pyproject.toml`."""
    (folder / "pyproject.toml").write_text(text, "utf-8")
    return str(folder)


def test_without_a_file_everything_has_a_default(tmp_path: Path) -> None:
    """And each key says so."""
    config = load_config(str(tmp_path))
    assert config == Config(sources=dict.fromkeys(KEYS, "default"))
    assert config.large_size == DEFAULT_LARGE_SIZE == 1 << 20


def test_without_a_file_nothing_is_imported_to_read_one(tmp_path: Path) -> None:
    """tomllib costs more than the two failed opens."""
    code = f"""if 1:
        import sys
        from tensortime.config import load_config
        load_config({str(tmp_path)!r})
        sys.exit(bool({{"tomllib", "difflib", "decimal"}} & set(sys.modules)))"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_key_can_be_set(tmp_path: Path) -> None:
    """And says where its value comes from."""
    text = """
        large_size = "4 MiB"
        hardlink = ["data/*.bin"]
        follow = ["data"]
        ignore = ["*.tmp"]
        metrics = ["metrics.json", "logs/*.csv"]
        outputs = ["save/", "logs//run.txt"]
        backup_dir = "/scratch/store"
        max_store = "200GB"
        lang = "zh"
        strict = true
    """
    config = load_config(own(tmp_path, text))
    assert config == Config(
        large_size=4 << 20,
        hardlink=("data/*.bin",),
        follow=("data",),
        ignore=("*.tmp",),
        metrics=("metrics.json", "logs/*.csv"),
        outputs=("save", "logs/run.txt"),
        backup_dir="/scratch/store",
        max_store=200 * 1000**3,
        lang="zh",
        strict=True,
        sources=dict.fromkeys(KEYS, "tensortime.toml"),
    )


def test_pyproject_is_read_where_there_is_no_file_of_our_own(tmp_path: Path) -> None:
    """Only the table `[tool.tensortime]` of it."""
    project = shared(
        tmp_path, "[project]\nname='x'\n[tool.tensortime]\nignore=['a']\n[tool.ruff]\nlang='x'\n"
    )
    config = load_config(project)
    assert config.ignore == ("a",)
    assert config.sources["ignore"] == "pyproject.toml [tool.tensortime]"
    assert config.sources["lang"] == "default"


def test_our_own_file_wins_as_a_whole(tmp_path: Path) -> None:
    """Two half configurations would be a riddle."""
    shared(tmp_path, "[tool.tensortime]\nlang='zh'\n")
    config = load_config(own(tmp_path, "strict = true"))
    assert (config.lang, config.strict) == (None, True)


def test_a_byte_order_mark_and_windows_lines_do_no_harm(tmp_path: Path) -> None:
    """Some editors write both."""
    (tmp_path / "tensortime.toml").write_bytes(b"\xef\xbb\xbfstrict = true\r\nlang = 'en'\r\n")
    assert load_config(str(tmp_path)).strict is True


@pytest.mark.parametrize(
    ("key", "near"),
    [("hardlinks", "hardlink"), ("large-size", "large_size"), ("IGNORE", "ignore"), ("lnag", "lang")],
)
def test_an_unknown_key_is_named_with_the_near_one(tmp_path: Path, key: str, near: str) -> None:
    """A key that does nothing would be believed for ever."""
    with pytest.raises(BadConfig) as caught:
        load_config(own(tmp_path, f"{key} = 1"))
    assert str(caught.value) == f"tensortime.toml: unknown key {key}"
    assert str(caught.value.hint) == f"did you mean {near}?"


def test_an_unknown_key_that_is_near_to_none_gets_the_list(tmp_path: Path) -> None:
    """So that the person need not look it up."""
    with pytest.raises(BadConfig) as caught:
        load_config(shared(tmp_path, "[tool.tensortime]\nzzz = 1"))
    assert str(caught.value) == "pyproject.toml [tool.tensortime]: unknown key zzz"
    assert "large_size, hardlink" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('large_size = "big"', "a size"),
        ("large_size = 0", "a size"),
        ("large_size = -1", "a size"),
        ("large_size = 1.5", "a size"),
        ("large_size = true", "a size"),
        ('max_store = "12 parsec"', "a size"),
        ('ignore = "data"', "a list of patterns"),
        ("follow = [1]", "a list of patterns"),
        ('outputs = ["../other"]', "a list of paths inside the project"),
        ('outputs = ["/tmp/save"]', "a list of paths inside the project"),
        ('outputs = ["."]', "a list of paths inside the project"),
        ("hardlink = {}", "a list of patterns"),
        ("backup_dir = 3", "a text"),
        ('lang = "fr"', '"en" or "zh"'),
        ('strict = "yes"', "true or false"),
        ("strict = 1", "true or false"),
    ],
)
def test_a_wrong_value_names_file_and_key_and_what_it_should_be(
    tmp_path: Path, line: str, wanted: str
) -> None:
    """Exit code 2, always raised."""
    with pytest.raises(BadConfig) as caught:
        load_config(own(tmp_path, line))
    key = line.split()[0]
    assert str(caught.value).startswith(f"tensortime.toml: {key} must be {wanted}")
    assert caught.value.exit_code == 2


def test_a_broken_file_is_named_with_its_line(tmp_path: Path) -> None:
    """Also where the parser only says that the end came too early."""
    with pytest.raises(BadConfig, match=r"^tensortime\.toml, line 2: "):
        load_config(own(tmp_path, "strict = true\nignore = [what\n"))
    with pytest.raises(BadConfig, match=r"^tensortime\.toml, line 2: "):
        load_config(own(tmp_path, 'strict = true\nlang = """a\n'))


def test_a_file_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    """Latin-1 from an old editor."""
    (tmp_path / "tensortime.toml").write_bytes(b"strict = true\nlang = 'fran\xe7ais'\n")
    with pytest.raises(BadConfig, match=r"^tensortime\.toml, line 2: not UTF-8$"):
        load_config(str(tmp_path))


@pytest.mark.parametrize("text", ["[project\n", "[project]\nname = tensortime\n", "\x00"])
def test_a_broken_pyproject_without_our_table_is_not_ours_to_judge(tmp_path: Path, text: str) -> None:
    """Training goes on."""
    assert load_config(shared(tmp_path, text)) == Config(sources=dict.fromkeys(KEYS, "default"))


def test_a_broken_pyproject_with_our_table_is_named(tmp_path: Path) -> None:
    """Its `ignore` would be missed."""
    with pytest.raises(BadConfig, match=r"^pyproject\.toml, line 2: "):
        load_config(shared(tmp_path, "[tool.tensortime]\nignore = [\x01]\n"))


def test_our_place_in_pyproject_must_be_a_table(tmp_path: Path) -> None:
    """`tool.tensortime = 1` means nothing."""
    with pytest.raises(BadConfig, match="must be a table"):
        load_config(shared(tmp_path, "tool.tensortime = 1"))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (1, 1),
        ("7", 7),
        ("512k", 512 << 10),
        ("4 MiB", 4 << 20),
        ("4mib", 4 << 20),
        ("4MB", 4_000_000),
        ("1.5 GiB", 3 << 29),
        (" 2T ", 2 << 40),
        ("10 b", 10),
    ],
)
def test_sizes_are_written_as_people_write_them(text: int | str, size: int) -> None:
    """KiB and k are 1024, kB is 1000."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1e9", "0", "0.2 b", "4 MiBs", "4 M iB", "\u0664"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """With an example of one."""
    with pytest.raises(ValueError, match="4 MiB"):
        parse_size(text)


def test_a_large_size_past_the_highest_counts_as_the_highest(tmp_path: Path) -> None:
    """A small file is held in memory whole."""
    assert load_config(own(tmp_path, 'large_size = "1 TiB"')).large_size == HIGHEST_LARGE_SIZE
