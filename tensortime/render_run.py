"""What `tensortime run` says before and after the command: pure."""

from tensortime.experiments import SUBMITTED
from tensortime.messages import Translator
from tensortime.render import backup_text, error_text
from tensortime.reports import BackupReport, RunReport
from tensortime.text import LISTED, listed, printable, quoted, seconds_text, size_text


def begun_text(begun: BackupReport, tr: Translator) -> list[str]:
    """What is said before the command starts: what is stored of its inputs, or which experiment goes on."""
    lines = backup_text(begun, tr)[:-1]
    if begun.is_edit or begun.number > 1:
        return [tr("{name} goes on", name=printable(str(begun.experiment))), *lines[1:]]
    return lines


def ended_text(report: RunReport, tr: Translator) -> list[str]:
    """What is said after it: how it ended, what it made, what of that is stored nowhere."""
    lines = [] if report.experiment is None else [end_line(report, tr)]
    added = report.added
    if added is not None:
        if added.edited:
            lines.append(
                tr(
                    "edited while it ran, the experiment has them as they were when it began: {paths}",
                    paths=listed(added.edited, tr),
                )
            )
        lines += backup_text(added, tr)[1:-1] if added.skipped or added.changed or added.lost else []
    if report.missed:
        lines.append(missed_line(report, tr))
    if report.problem is not None:
        told = [line.removeprefix("tensortime: ") for line in error_text(report.problem, tr)]
        lines += [tr("NOT ADDED: what the command made is not in the experiment"), *told]
        if not report.worktree:
            words = ["tensortime", "backup", "--name", str(report.experiment), "--add"]
            lines.append(tr("{command} PATH adds it", command=printable(" ".join(map(quoted, words)))))
    if report.worktree:
        lines += worktree_lines(report, tr)
    return lines


def end_line(report: RunReport, tr: Translator) -> str:
    """How the command ended, and what it made."""
    facts = {
        "name": printable(str(report.experiment)),
        "duration": seconds_text(report.seconds, tr),
        "made": made_text(report, tr),
        "code": report.exit_code,
        "signal": report.signal or report.interrupted,
    }
    if report.status == SUBMITTED:
        return tr("{name}: submitted, the job goes on with it", **facts)
    if report.status == "interrupted":
        return tr("{name}: interrupted by {signal} after {duration}{made}", **facts)
    if report.signal:
        return tr("{name}: ended by {signal} after {duration}{made}", **facts)
    if report.status == "failed":
        return tr("{name}: failed with exit code {code} after {duration}{made}", **facts)
    return tr("{name}: done in {duration}{made}", **facts)


def made_text(report: RunReport, tr: Translator) -> str:
    """How many outputs, and the memory that it took."""
    text = ""
    if report.added is not None:
        outputs = report.added.outputs
        size = size_text(sum(one.size for one in outputs))
        if len(outputs) == 1:
            text += tr(", 1 output ({size})", size=size)
        elif outputs:
            text += tr(", {count} outputs ({size})", count=len(outputs), size=size)
        else:
            text += tr(", no outputs")
    if report.peak_memory:
        text += tr(", {size} of memory", size=size_text(report.peak_memory))
    return text


def missed_line(report: RunReport, tr: Translator) -> str:
    """What a rule leaves out although the command wrote it, and how to have it."""
    named = [path.rstrip("/") for path in report.missed[:LISTED]]
    words = [
        "tensortime",
        *(["-C", report.worktree] if report.worktree else []),
        "backup",
        "--name",
        str(report.experiment),
    ]
    words += [word for path in named for word in ("--add", path)]
    return tr(
        "written by it, but left out by your rules: {paths} ({command} stores it; "
        'outputs = ["{first}"] in tensortime.toml does so in every run)',
        paths=listed(report.missed, tr),
        command=printable(" ".join(map(quoted, words))),
        first=printable(named[0]),
    )


def worktree_lines(report: RunReport, tr: Translator) -> list[str]:
    """Where the folder is that the command ran in, and how it goes."""
    path = printable(report.worktree)
    if report.why_kept == "asked":
        line = tr("the folder that it ran in is kept: {path}", path=path)
    elif report.why_kept == "submitted":
        line = tr("the job runs in a folder of its own, which stays: {path}", path=path)
    elif report.why_kept == "busy":
        line = tr("processes that it started still work in its folder, which stays: {path}", path=path)
    else:
        line = tr("not all of it is stored, so the folder that it ran in stays: {path}", path=path)
    return [line, tr("remove it with: tensortime rm --worktree {path}", path=quoted(path))]
