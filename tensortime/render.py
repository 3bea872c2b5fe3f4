"""From reports to text: pure functions, no I/O.

Each takes a Translator and returns lines. What a user wrote is made printable on the way (`text.printable`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tensortime.errors import QueryError, TensorTimeError
from tensortime.formats import iso_time
from tensortime.messages import Translator
from tensortime.policy import SECRET_RULE
from tensortime.text import (
    LISTED,
    Column,
    files_text,
    listed,
    pad,
    pointed_at,
    printable,
    quoted,
    seconds_text,
    size_text,
    table,
)

if TYPE_CHECKING:  # what they are is for the checker: `log` would wait for it
    from tensortime.answers import SettingsReport
    from tensortime.chronicle import ShowReport
    from tensortime.experiments import Experiment
    from tensortime.reports import BackupReport, Ignored, LinkOut, RestoreReport, Skipped


def backup_text(report: BackupReport, tr: Translator) -> list[str]:
    """What a backup ends with: what is stored, what is not and why, how to come back."""
    if report.experiment is None:
        return [tr("nothing was backed up: TENSORTIME=off")]
    name = printable(report.experiment)
    facts = {
        "name": name,
        "files": files_text(report.files, tr),
        "size": size_text(report.bytes),
        "new": size_text(report.stored_bytes),
        "duration": seconds_text(report.seconds, tr),
    }
    if report.is_edit:
        lines = [tr("{name} holds all of it already: {files}, {size}", **facts)]
    elif report.number > 1:
        facts["number"] = str(report.number)
        lines = [tr("backed up {name}, backup {number}: {files}, {size} ({new} new) in {duration}", **facts)]
    else:
        lines = [tr("backed up {name}: {files}, {size} ({new} new) in {duration}", **facts)]
    left_out = ignored_text(report.ignored, tr)
    if left_out:
        lines.append(tr("left out: {what}", what=left_out))
    lines += [outside_text(one, tr) for one in report.outside[:LISTED] if one.files or not one.complete]
    if report.queued:
        queued = {"files": files_text(len(report.queued), tr), "paths": listed(report.queued, tr)}
        lines.append(
            tr(
                "pending: {files}, {size} follow in the background ({paths})",
                size=size_text(report.queued_bytes),
                **queued,
            )
        )
    lines += skipped_text(report.skipped, tr)
    if report.changed:
        changed = listed(report.changed, tr)
        lines.append(tr("changed while being read, the stored state may be mixed: {paths}", paths=changed))
    for one in report.lost:
        lost = {"path": printable(one.path), "names": listed(one.experiments, tr)}
        lines.append(tr("LOST: {path} in {names}: its hard-linked file was written to", **lost))
    lines.append(tr("restore: tensortime restore {name}", name=quoted(name)))
    return lines


def outside_text(one: LinkOut, tr: Translator) -> str:
    """A link whose content is elsewhere, and what stores it."""
    facts = {
        "path": printable(one.path),
        "files": files_text(one.files, tr),
        "size": size_text(one.bytes),
    }
    if one.complete:
        return tr(
            "{path} is a link out of the project: {files}, {size} behind it are not stored "
            '(follow = ["{path}"] stores them)',
            **facts,
        )
    return tr(
        "{path} is a link out of the project: {files}, {size} or more behind it are not stored "
        '(follow = ["{path}"] stores them)',
        **facts,
    )


def ignored_text(ignored: Iterable[Ignored], tr: Translator) -> str:
    """What was left out, by rule: each top-level entry, and of what lies deeper each folder with sources that a
    user's pattern left out, and each file that a secret may be in."""
    by_rule: dict[str, list[str]] = {}
    for one in ignored:
        kind, _, detail = one.rule.partition(": ")
        secret = kind == SECRET_RULE
        if "/" not in one.path or one.sources or secret:
            own_name = kind == "built-in" and detail == one.path
            plain = tr("a secret?") if secret else tr("built-in") if own_name else tr.known(one.rule)
            by_rule.setdefault(plain, []).append(one.path + "/" * one.folder)
    return "; ".join(
        tr("{paths} ({rule})", paths=listed(paths, tr), rule=printable(rule))
        for rule, paths in by_rule.items()
    )


def skipped_text(skipped: Sequence[Skipped], tr: Translator) -> list[str]:
    """A line for each of the first skipped paths, and how many more."""
    lines = [
        tr("SKIPPED {path}: {reason}", path=printable(one.path), reason=printable(tr.known(one.reason)))
        for one in skipped[:LISTED]
    ]
    if len(skipped) > LISTED:
        lines.append(tr("SKIPPED {count} more: tensortime show @ names them", count=len(skipped) - LISTED))
    return lines


def show_text(report: ShowReport, tr: Translator) -> list[str]:
    """One experiment for a person."""
    from tensortime.recollection import left_rows, result_rows, status_text

    one, run = report.experiment, report.run
    rows: list[tuple[str, str]] = [
        (tr("experiment"), one.name),
        (tr("note"), one.note),
        (tr("time"), iso_time(one.time_ns)),
        (tr("status"), status_text(one, tr)),
        (tr("files"), f"{one.files:,} ({size_text(one.bytes)})"),
        (tr("project"), one.project),
        (tr("parent"), one.parent),
        (tr("tags"), ", ".join(one.tags)),
        (tr("purged"), purged_names(run)),
        *run_rows(run, tr),
        *result_rows(run, one.name, tr),
        *(
            (key, json.dumps(value, ensure_ascii=False))
            for key, value in ((tr("params"), dict(one.params)), (tr("metrics"), dict(one.metrics)))
            if value
        ),
    ]
    for entry in report.history:
        facts = f"{files_text(entry.files, tr)}, {size_text(entry.bytes)}"
        rows.append((tr("backup"), f":{entry.number}  {iso_time(entry.time_ns)}  {facts}"))
    rows += problem_rows(run, tr) + left_rows(report, tr)
    older = f":{one.backups}" if one.backups != report.newest else ""
    rows.append((tr("restore"), f"tensortime restore {quoted(one.name + older)}"))
    return [labelled(label, value) for label, value in rows if value]


def purged_names(run: Mapping[str, object]) -> str:
    """The paths that `purge` took out of a backup."""
    paths = run.get("purged")
    return ", ".join(map(str, paths)) if isinstance(paths, list) else ""


def labelled(label: str, value: str) -> str:
    """A row of `show`."""
    return f"{pad(label, 11)} {printable(value)}"


def run_rows(run: Mapping[str, object], tr: Translator) -> list[tuple[str, str]]:
    """The rows of `show` that come from run.json."""
    from tensortime.recollection import python_row, recollection_rows  # only `show` tells it

    git, by = run.get("git"), run.get("added_by")
    rows = [(tr("command"), command_text(run)), (tr("added by"), command_text(by))]
    rows.append((tr("folder"), str(run.get("cwd") or "")))
    rows.append(python_row(run, tr))
    rows.append((tr("platform"), str(run.get("platform") or "")))
    if isinstance(git, dict):
        rows.append(("git", git_text(git, tr)))
        remotes = git.get("remotes")
        if isinstance(remotes, dict):
            rows += [(tr("remote"), f"{name} {url}") for name, url in remotes.items()]
    return rows + recollection_rows(run, tr)


def command_text(facts: object) -> str:
    """The command among some facts."""
    command = facts.get("command") if isinstance(facts, Mapping) else None
    return " ".join(quoted(str(word)) for word in command) if isinstance(command, list) else ""


def git_text(git: Mapping[str, object], tr: Translator) -> str:
    """What was checked out in the user's repository, and whether it had changes."""
    head = str(git["head"])[:12] if git.get("head") else tr("no commit")
    branch = f" ({git['branch']})" if git.get("branch") else ""
    # Untracked files were not looked at, and where nothing was committed or added there are no others.
    states = {True: tr(", with uncommitted changes"), False: tr(", no tracked file changed")}
    dirty = git.get("dirty") if git.get("dirty") or git.get("head") else None
    return head + branch + (states[dirty] if isinstance(dirty, bool) else "")


def problem_rows(run: Mapping[str, object], tr: Translator) -> list[tuple[str, str]]:
    """What run.json says was left out, skipped or changed."""
    found: list[tuple[str, str]] = []
    for key, label in (("ignored", tr("ignored")), ("skipped", tr("skipped"))):
        rows = run.get(key)
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict):
                why = tr.known(str(row.get("rule") or row.get("reason") or ""))
                found.append((label, f"{row.get('path')}  ({why})"))
    for key, label in (("changed", tr("changed")), ("edited", tr("edited"))):
        paths = run.get(key)
        found += [(label, str(path)) for path in (paths if isinstance(paths, list) else [])]
    return found


def restore_text(report: RestoreReport, tr: Translator) -> list[str]:
    """What a restore ends with."""
    placed = [
        tr("{count} by {method}", count=count, method=method)
        for method, count in report.placed.items()
        if count
    ]
    lines = [
        tr(
            "restored {name}: {files}, {size} in {duration}",
            name=printable(report.experiment),
            files=files_text(report.files, tr),
            size=size_text(report.bytes),
            duration=seconds_text(report.seconds, tr),
        ),
        tr("every byte checked; large files: {placed}", placed=", ".join(placed))
        if placed
        else tr("every byte checked"),
    ]
    if report.plain_modes:
        lines.append(tr("without their setuid or setgid bit: {paths}", paths=listed(report.plain_modes, tr)))
    if report.changed:
        changed = listed(report.changed, tr)
        lines.append(tr("changed while they were backed up, perhaps mixed: {paths}", paths=changed))
    return [*lines, *missing_lines(report.skipped, tr)]


def missing_lines(skipped: Sequence[Skipped], tr: Translator) -> list[str]:
    """What a backup should have held and could not."""
    lines = []
    for one in skipped[:LISTED]:
        facts = {"path": printable(one.path), "reason": printable(tr.known(one.reason))}
        lines.append(tr("NOT in this backup: {path}: {reason}", **facts))
    more = len(skipped) - LISTED
    if more > 0:
        lines.append(tr("NOT in this backup: {count} more, tensortime show names them", count=more))
    return lines


def edit_text(one: Experiment, tr: Translator) -> list[str]:
    """What a new note or tag ends with: what the experiment is called, its note and its tags now."""
    tags = ", ".join(printable(tag) for tag in one.tags)
    rows = [(tr("experiment"), one.name), (tr("note"), one.note), (tr("tags"), tags or "-")]
    return [labelled(label, value) for label, value in rows if value]


def settings_text(report: SettingsReport, width: int, tr: Translator) -> list[str]:
    """What holds in a project, a key a row."""
    places = [(tr("project"), report.project), (tr("store"), report.store)]
    columns = [Column(tr("KEY")), Column(tr("FROM")), Column(tr("VALUE"))]
    rows = [
        [one.key, printable(tr.known(one.source)), printable(setting_text(one.value))]
        for one in report.settings
    ]
    return [*(labelled(*place) for place in places), "", *table(columns, rows, width)]


def setting_text(value: object) -> str:
    """A value as it would be written into the file; `-` where there is none."""
    if value is None or value == ():
        return "-"
    return json.dumps(value, ensure_ascii=False)


def error_text(error: TensorTimeError, tr: Translator) -> list[str]:
    """An error for a person: what is wrong, what to do."""
    hint = tr.text(error.hint)
    # What the parser of commands says comes as one English text.
    lines = [f"tensortime: {printable(tr.known(tr.text(error.message)))}"]
    if isinstance(error, QueryError):
        lines += pointed_at(error.text, error.at)
    return [*lines, f"  {printable(hint)}"] if hint else lines
