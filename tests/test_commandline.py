"""Which typed lines train, and in which folder."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensortime.commandline import commands_of, training_command

ENVIRON = {"HOME": "/home/lin", "OLDPWD": "/before"}


def found(line: str) -> tuple[str, str, str] | None:
    """Folder, words and script of the command that trains."""
    typed = training_command(line, "/p", ENVIRON, sys.stdlib_module_names)
    return None if typed is None else (typed.folder, " ".join(typed.words), typed.script)


TRAINS = {
    "python train.py": ("/p", "python train.py", "train.py"),
    "  python3.11 -u ./a/train.py --lr=1 ": ("/p", "python3.11 -u ./a/train.py --lr=1", "./a/train.py"),
    "./venv/bin/python -W ignore -X dev -Bu train.py": (
        "/p",
        "./venv/bin/python -W ignore -X dev -Bu train.py",
        "train.py",
    ),
    "python -Wignore -m pkg.train -c x": ("/p", "python -Wignore -m pkg.train -c x", ""),
    "python -mpkg.train": ("/p", "python -mpkg.train", ""),
    "python -m pdb train.py": ("/p", "python -m pdb train.py", "train.py"),
    "python3.13t train.py": ("/p", "python3.13t train.py", "train.py"),
    "ipython train.py": ("/p", "ipython train.py", "train.py"),
    "python bench": ("/p", "python bench", "bench"),
    "CUDA_VISIBLE_DEVICES=0,1 A='b c' python train.py": (
        "/p",
        "CUDA_VISIBLE_DEVICES=0,1 A=b c python train.py",
        "train.py",
    ),
    "nohup python train.py > log 2>&1 &": ("/p", "nohup python train.py", "train.py"),
    "time nice -n 5 env -u X A=1 python train.py": (
        "/p",
        "time nice -n 5 env -u X A=1 python train.py",
        "train.py",
    ),
    "sudo -u lin python train.py": ("/p", "sudo -u lin python train.py", "train.py"),
    "uv run --with torch python train.py": ("/p", "uv run --with torch python train.py", "train.py"),
    "uv run train.py --lr 1": ("/p", "uv run train.py --lr 1", "train.py"),
    "nice uv run train.py": ("/p", "nice uv run train.py", "train.py"),
    "poetry run python -m pkg": ("/p", "poetry run python -m pkg", ""),
    "conda run -n x --no-capture-output python train.py": (
        "/p",
        "conda run -n x --no-capture-output python train.py",
        "train.py",
    ),
    "torchrun --nproc_per_node 4 train.py --lr 1": (
        "/p",
        "torchrun --nproc_per_node 4 train.py --lr 1",
        "train.py",
    ),
    "torchrun --standalone -m pkg.train": ("/p", "torchrun --standalone -m pkg.train", ""),
    "python -m torch.distributed.run --nproc-per-node=2 train.py": (
        "/p",
        "python -m torch.distributed.run --nproc-per-node=2 train.py",
        "train.py",
    ),
    "accelerate launch --config_file c.yaml train.py": (
        "/p",
        "accelerate launch --config_file c.yaml train.py",
        "train.py",
    ),
    "deepspeed --num_gpus=2 train.py --deepspeed c.json": (
        "/p",
        "deepspeed --num_gpus=2 train.py --deepspeed c.json",
        "train.py",
    ),
    "srun --gres=gpu:1 python train.py": ("/p", "srun --gres=gpu:1 python train.py", "train.py"),
    "./train.py --lr 1": ("/p", "./train.py --lr 1", "./train.py"),
    "cd x && python train.py": ("/p/x", "python train.py", "train.py"),
    "cd x; cd ../y; python train.py": ("/p/x/../y", "python train.py", "train.py"),
    "cd /abs && python t.py": ("/abs", "python t.py", "t.py"),
    "cd ~/p && python t.py": ("/home/lin/p", "python t.py", "t.py"),
    "cd $HOME/p && python t.py": ("/home/lin/p", "python t.py", "t.py"),
    "cd - && python t.py": ("/before", "python t.py", "t.py"),
    "pushd -n x >/dev/null && python t.py": ("/p/x", "python t.py", "t.py"),
    "(cd x && ls) && python t.py": ("/p", "python t.py", "t.py"),
    "(cd x; (cd y); python t.py)": ("/p/x", "python t.py", "t.py"),
    "ls; python a.py | tee log; python b.py": ("/p", "python a.py", "a.py"),
    "false || python t.py": ("/p", "python t.py", "t.py"),
    "! python t.py": ("/p", "python t.py", "t.py"),
    "for i in 1 2; do python t.py --seed $i; done": ("/p", "python t.py --seed $i", "t.py"),
    "while true; do python t.py; done": ("/p", "python t.py", "t.py"),
    "if [ -e x ]; then python t.py; fi": ("/p", "python t.py", "t.py"),
    "{ python t.py; }": ("/p", "python t.py", "t.py"),
    "case x in x) python t.py;; esac": ("/p", "python t.py", "t.py"),
    "python \\\n t.py \\\n --lr 1": ("/p", "python t.py --lr 1", "t.py"),
    "ls\npython t.py": ("/p", "python t.py", "t.py"),
    "python t.py # the best; python u.py": ("/p", "python t.py", "t.py"),
    "python t.py <<EOF\nit's not\nEOF": ("/p", "python t.py", "t.py"),
    "python t.py <<< 'x' &>> log": ("/p", "python t.py", "t.py"),
    "python t.py > >(tee log) 2>&1": ("/p", "python t.py", "t.py"),
    "python t.py --x \"$(date '+%Y')\" `hostname` ${Z:-1}": (
        "/p",
        "python t.py --x $(date '+%Y') `hostname` ${Z:-1}",
        "t.py",
    ),
    "python \"my script.py\" 'it is' a\\ b": ("/p", "python my script.py it is a b", "my script.py"),
    "python 训练.py --备注 好": ("/p", "python 训练.py --备注 好", "训练.py"),
}


@pytest.mark.parametrize("line", TRAINS)
def test_lines_that_train(line: str) -> None:
    """The first command that trains, its folder after every `cd` before it, its words as the shell splits them."""
    assert found(line) == TRAINS[line]


DOES_NOT = (
    *(
        "",
        " ",
        "ls",
        "python",
        "python -i",
        "python -c 'import x'",
        "python -uc x",
        "python -V",
        "python --version",
    ),
    *(
        "python -h",
        "python --help",
        "python -",
        "python - <<EOF\nx\nEOF",
        "python -m",
        "python -W",
        "python3-config x",
    ),
    *(
        "python -m pip install x",
        "python -mpip",
        "python -m venv .venv",
        "python -m http.server",
        "python -m json.tool x",
    ),
    *(
        "python -m pytest tests",
        "python -m unittest",
        "python -m tensortime log",
        "python -m ipykernel install",
    ),
    *(
        "python -m torch.utils.collect_env",
        "python -m accelerate env",
        "python setup.py build",
        "python manage.py x",
    ),
    *(
        "pip install torch",
        "uv pip install python",
        "uv run pytest",
        "conda install python torch",
        "conda activate x",
    ),
    *(
        "poetry add python",
        "torchrun",
        "torchrun --help",
        "accelerate config",
        "accelerate launch --help",
        "deepspeed",
    ),
    *(
        "echo python train.py",
        "vim train.py",
        "cat train.py",
        "which python train.py",
        "alias t='python train.py'",
    ),
    *("tensortime backup --add train.py", "tensortime run -- python train.py", "ssh host python train.py"),
    *("docker run image python train.py", "sbatch train.sh", "make train", "bash run.sh", "watch nvidia-smi"),
    *(
        "f() { python train.py; }",
        "function f { python train.py; }",
        "# python train.py",
        "x='python train.py'",
    ),
    *("command -v python train.py", "python 'train.py", 'python "train.py', "python $(train.py", "python `x"),
    *("cd $X && python t.py", "cd x* && python t.py", "cd $(pwd)/x && python t.py", "cd a b && python t.py"),
    *(
        "cd ~other && python t.py",
        "\\",
        "'",
        ")",
        "((",
        "&& python",
        "> python t.py",
        "<(",
        "$(",
        "python;train.py",
    ),
)


@pytest.mark.parametrize("line", DOES_NOT)
def test_lines_that_do_not_train(line: str) -> None:
    """Python without a script, its tools, lines about Python, definitions, what is never closed, unknown folders."""
    assert found(line) is None


PIECES = st.sampled_from(
    [
        *"'\"\\$`(){}<>|&;\n# \t=-~*",
        "python",
        "train.py",
        "-m",
        "cd",
        "x",
        "&&",
        "$(",
        "<<",
        "uv run",
        "sudo",
        "\0",
        "\udcff",
    ]
)


@given(st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=40))
def test_no_line_breaks_it(line: str) -> None:
    """Whatever is typed: an answer, and whoever trains in it has a folder and words."""
    typed = training_command(line, "/p", ENVIRON, sys.stdlib_module_names)
    if typed is not None:
        assert typed.folder.startswith("/")
        assert typed.words


@given(
    st.lists(
        st.text(st.characters(exclude_characters="'\0", codec="utf-8"), max_size=8), min_size=1, max_size=5
    )
)
def test_quoted_words_come_back(words: list[str]) -> None:
    """What stands between single quotes is one word, whatever it holds."""
    line = " ".join(f"'{word}'" for word in words)
    assert list(commands_of(line)) == [words]


def test_a_long_line_takes_no_time() -> None:
    """100 kB of brackets and quotes are read in one pass."""
    for part in ("a ", "(", "$(", "'a'", '"$x" ', "<<x\n"):
        assert training_command(part * 20_000, "/p", ENVIRON) is None
