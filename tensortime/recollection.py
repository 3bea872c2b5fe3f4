"""What a backup remembers of the run, as `show` says it: rows of label and text. Pure.

Short on purpose: `show --json` and the files in `.tensortime/` have all of it.
"""

from collections.abc import Mapping
from itertools import groupby

from tensortime.chronicle import ShowReport
from tensortime.experiments import SUBMITTED, Experiment
from tensortime.messages import Translator
from tensortime.text import number_text, quoted, seconds_text, size_text

Row = tuple[str, str]
THIS_PROCESS = "this process"


def python_row(run: Mapping[str, object], tr: Translator) -> Row:
    """Which Python trained, and where the shell found it."""
    python = part(run, "python")
    words = [python.get("version"), python.get("executable"), error_text(python, tr)]
    if python.get("source") not in (None, THIS_PROCESS):
        words.append(f"({python['source']})")
    return "python", " ".join(str(word) for word in words if word)


def recollection_rows(run: Mapping[str, object], tr: Translator) -> list[Row]:
    """The machine, the launch, trackers, the notebook, the way to the nearest pushed commit."""
    notebook, packages = part(run, "notebook"), part(run, "packages")
    rows = [(tr("machine"), machine_text(part(run, "machine"), tr)), ("GPU", gpu_text(part(run, "machine")))]
    rows.append((tr("packages"), error_text(packages, tr)))
    rows.append((tr("launch"), " ".join(f"{key}={value}" for key, value in part(run, "launch").items())))
    for name, facts in part(run, "trackers").items():
        rows.append((name, tracker_text(facts)))
    if notebook:
        ran = tr("{count} cells", count=number_text(number(notebook.get("cells"))))
        rows.append((tr("notebook"), f"{notebook.get('path', '')} ({ran})".strip()))
    rows.append((tr("pushed"), pushed_text(part(part(run, "git"), "pushed"), tr)))
    return [row for row in rows if row[1]]


def status_text(one: Experiment, tr: Translator) -> str:
    """The status, and of a job that was submitted that nobody sees from here how far it is."""
    if one.status != SUBMITTED:
        return tr.known(one.status)
    return tr(
        "submitted ({program}); whether its job has ended is not seen here",
        program=one.runner.get("submitted"),
    )


def left_rows(report: ShowReport, tr: Translator) -> list[Row]:
    """Where there is what a killed command made, and how to keep it, to be rid of it, to go on with it."""
    if not report.left:
        return []
    path = quoted(report.left)
    rows = [
        (tr("left"), tr("what it made until it was killed is in {path}", path=path)),
        ("", tr("tensortime -C {path} backup stores it", path=path)),
        ("", tr("tensortime rm --worktree --force {path} removes it", path=path)),
    ]
    if report.experiment.runner.get("isolated"):
        rows.append(
            (
                "",
                tr(
                    "TENSORTIME_EXPERIMENT={name} tensortime run --isolated -- COMMAND goes on in it",
                    name=quoted(report.experiment.name),
                ),
            )
        )
    return rows


def result_rows(run: Mapping[str, object], experiment: str, tr: Translator) -> list[Row]:
    """How the command of `tensortime run` ended, how long it took, and where its output is."""
    result = part(run, "result")
    if not result:
        return []
    code, signal = number(result.get("exit_code")), result.get("signal") or result.get("interrupted")
    ended = tr("exit code {code}", code=code) + (f" ({signal})" if signal else "")
    rows = [(tr("result"), ended)]
    seconds, memory = result.get("seconds"), result.get("peak_memory")
    if isinstance(seconds, int | float):
        rows.append((tr("duration"), seconds_text(seconds, tr)))
    rows.append((tr("memory"), size_text(memory) if isinstance(memory, int) else ""))
    output = part(result, "output")
    if output.get("bytes"):
        show = f"tensortime show {quoted(experiment)} .tensortime/records/output.log"
        size, cut = size_text(number(output["bytes"])), number(output.get("cut"))
        if cut:
            size = tr("{size}, without {cut} in the middle", size=size, cut=size_text(cut))
        rows.append((tr("output"), f"{size}: {show}"))
    return [row for row in rows if row[1]]


def part(facts: Mapping[str, object], key: str) -> Mapping[str, object]:
    """The facts under a key; none where it is missing or of another kind."""
    found = facts.get(key)
    return found if isinstance(found, Mapping) else {}


def error_text(facts: Mapping[str, object], tr: Translator) -> str:
    """Why facts are missing."""
    return tr.known(str(facts["error"])) if facts.get("error") else ""


def number(value: object) -> int:
    """A number that may be missing or of another kind."""
    return value if isinstance(value, int) else 0


def machine_text(machine: Mapping[str, object], tr: Translator) -> str:
    """Processor, how many of it, memory; the smaller of what there is and what was allowed."""
    cpus, memory = (
        machine.get("cpu_limit") or machine.get("cpus"),
        machine.get("memory_limit") or machine.get("memory"),
    )
    words = [str(machine["cpu"])] if machine.get("cpu") else []
    words += [error_text(machine, tr)] if machine.get("error") else []
    words += [tr("{count} CPUs", count=cpus)] if cpus else []
    words += [tr("{size} of memory", size=size_text(number(memory)))] if memory else []
    return ", ".join(words)


def gpu_text(machine: Mapping[str, object]) -> str:
    """GPUs of one kind together, drivers, and for what torch was built."""
    gpus = machine.get("gpus")
    kinds = [(name, len(list(same))) for name, same in groupby(gpus if isinstance(gpus, list) else [])]
    words = [f"{count} × {name}" if count > 1 else str(name) for name, count in kinds]
    words += [f"{name} {version}" for name, version in part(machine, "drivers").items()]
    torch = part(machine, "torch")
    words += [f"torch {torch['version']}"] if torch.get("version") else []
    return ", ".join(words + [f"{name} {torch[name]}" for name in ("cuda", "hip") if torch.get(name)])


def tracker_text(facts: object) -> str:
    """The address of a tracker's run, else its id."""
    if not isinstance(facts, Mapping):
        return ""
    names = ("url", "run_url", "path", "run_id", "id")
    return next((str(facts[name]) for name in names if facts.get(name)), "")


def pushed_text(pushed: Mapping[str, object], tr: Translator) -> str:
    """The nearest commit that a remote has, and what lies between it and the files."""
    commit, size = str(pushed.get("commit") or "")[:12], pushed.get("patch")
    if pushed.get("error"):
        return ", ".join(filter(None, (commit, error_text(pushed, tr))))
    if commit and size:
        return tr("{commit}, and a patch of {size}", commit=commit, size=size_text(number(size)))
    return commit
