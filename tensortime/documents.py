"""From reports to the documents of `--json`: pure functions. docs/json.md describes each.

Fields may be added, never renamed: scripts read them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from tensortime.answers import (
    DoctorReport,
    ExportReport,
    GcReport,
    ImportReport,
    Problem,
    PurgeReport,
    SettingsReport,
    VerifyReport,
)
from tensortime.chronicle import ShowReport
from tensortime.errors import TensorTimeError
from tensortime.experiments import Experiment, LogReport
from tensortime.formats import iso_time
from tensortime.reports import BackupReport, RestoreReport, RunReport

if TYPE_CHECKING:
    from tensortime.differences import CommandChange, DiffReport, FileChange, FileFacts, Side, ValueChange
    from tensortime.inventory import ClearingReport, RemovalReport, Trash, UndeleteReport, UsageReport


def backup_json(report: BackupReport) -> dict[str, object]:
    """The document of `backup --json`."""
    return {
        "experiment": report.experiment,
        "commit": report.commit,
        "number": report.number,
        "note": report.note,
        "time": iso_time(report.time_ns) if report.time_ns else None,
        "files": report.files,
        "bytes": report.bytes,
        "stored_bytes": report.stored_bytes,
        "small": report.small,
        "large": report.large,
        "ignored": [{"path": one.path, "rule": one.rule} for one in report.ignored],
        "skipped": [{"path": one.path, "reason": one.reason} for one in report.skipped],
        "changed": list(report.changed),
        "outside": [
            {
                "path": one.path,
                "target": one.target,
                "files": one.files,
                "bytes": one.bytes,
                "complete": one.complete,
            }
            for one in report.outside
        ],
        "lost": [{"path": one.path, "experiments": list(one.experiments)} for one in report.lost],
        "seconds": round(report.seconds, 3),
    }


def run_json(report: RunReport) -> dict[str, object]:
    """The document of `run --json`."""
    begun, added = report.begun, report.added
    return {
        "experiment": report.experiment,
        "status": report.status,
        "exit_code": report.exit_code,
        "signal": report.signal or None,
        "interrupted": report.interrupted or None,
        "seconds": round(report.seconds, 3),
        "peak_memory": report.peak_memory,
        "output": {"bytes": report.log_bytes, "cut": report.log_cut},
        "inputs": None if begun is None else {"number": begun.number, "commit": begun.commit},
        "added": None if added is None else {"number": added.number, "commit": added.commit},
        "outputs": [
            {"path": one.path, "state": one.state, "bytes": one.size}
            for one in (added.outputs if added else ())
        ],
        "edited": list(added.edited if added else ()),
        "skipped": [{"path": one.path, "reason": one.reason} for one in (added.skipped if added else ())],
        "missed": list(report.missed),
        "worktree": report.worktree or None,
        "problem": None if report.problem is None else error_json(report.problem)["error"],
    }


def experiment_json(one: Experiment) -> dict[str, object]:
    """One experiment in `log --json` and `show --json`."""
    return {
        "experiment": one.name,
        "commit": one.commit,
        "note": one.note,
        "time": iso_time(one.time_ns),
        "backups": one.backups,
        "files": one.files,
        "bytes": one.bytes,
        "parent": one.parent or None,
        "status": one.status,
        "tags": list(one.tags),
        "params": dict(one.params),
        "metrics": dict(one.metrics),
    }


def log_json(report: LogReport, limit: int | None) -> dict[str, object]:
    """The document of `log --json`."""
    return {
        "experiments": [experiment_json(one) for one in report.experiments[:limit]],
        "damaged": [{"ref": one.ref, "reason": one.reason} for one in report.damaged],
    }


def show_json(report: ShowReport) -> dict[str, object]:
    """The document of `show --json`."""
    history = [
        {
            "number": entry.number,
            "commit": entry.commit,
            "time": iso_time(entry.time_ns),
            "files": entry.files,
            "bytes": entry.bytes,
        }
        for entry in report.history
    ]
    shown = {
        **experiment_json(report.experiment),
        "number": report.experiment.backups,
        "backups": report.newest,
    }
    return {**shown, "history": history, "run": dict(report.run), "left": report.left or None}


def settings_json(report: SettingsReport) -> dict[str, object]:
    """The document of `config --json`."""
    rows = {one.key: {"value": one.value, "source": one.source} for one in report.settings}
    return {"project": report.project, "store": report.store, "config": rows}


def restore_json(report: RestoreReport) -> dict[str, object]:
    """The document of `restore --json`."""
    methods = ("reflink", "copy", "hardlink", "symlink")
    return {
        "experiment": report.experiment,
        "commit": report.commit,
        "path": report.path,
        "files": report.files,
        "bytes": report.bytes,
        "placed": {method: report.placed.get(method, 0) for method in methods},
        "skipped": [{"path": one.path, "reason": one.reason} for one in report.skipped],
        "changed": list(report.changed),
        "seconds": round(report.seconds, 3),
    }


def export_json(report: ExportReport) -> dict[str, object]:
    """The document of `export --json`."""
    return {
        "experiment": report.experiment,
        "commit": report.commit,
        "path": report.path,
        "backups": report.backups,
        "files": report.files,
        "bytes": report.bytes,
        "size": report.size,
        "unlisted": list(report.unlisted),
        "skipped": [{"path": one.path, "reason": one.reason} for one in report.skipped],
        "seconds": round(report.seconds, 3),
    }


def import_json(report: ImportReport) -> dict[str, object]:
    """The document of `import --json`."""
    return {
        "experiment": report.experiment,
        "commit": report.commit,
        "note": report.note,
        "time": iso_time(report.time_ns),
        "backups": report.backups,
        "files": report.files,
        "bytes": report.bytes,
        "stored_bytes": report.stored_bytes,
        "seconds": round(report.seconds, 3),
    }


def usage_json(report: "UsageReport", limit: int | None) -> dict[str, object]:
    """The document of `du --json`."""
    rows = report.experiments[:limit]
    return {
        "store": report.store,
        "experiments": [
            {
                "experiment": one.name,
                "time": iso_time(one.time_ns),
                "backups": one.backups,
                "bytes": one.bytes,
                "freed": one.freed,
                "held": one.held,
            }
            for one in rows
        ],
        "together": report.together,
        "paths": None if report.paths is None else [asdict(one) for one in report.paths[:limit]],
        "totals": asdict(report.totals),
        "worktrees": [{**asdict(one), "bytes": size} for one, size in report.worktrees],
        "missing": report.missing,
    }


def removal_json(report: "RemovalReport") -> dict[str, object]:
    """The document of `rm --json`."""
    kept = (one for one in report.plan.choices if one.keep)
    return {
        "dry_run": report.dry_run,
        "removed": [{"experiment": one.name, "commit": one.commit} for one in report.plan.removed],
        "kept": [{"experiment": one.experiment.name, "reason": str(one.reason)} for one in kept],
        "trash": report.trashed,
        "freeable": report.freeable,
        "worktrees": [asdict(one) for one in report.open_worktrees],
    }


def clearing_json(report: "ClearingReport") -> dict[str, object]:
    """The document of `rm --worktree --json`."""
    return {**asdict(report.folder), "changed": list(report.changed), "pin": report.pin or None}


def undelete_json(report: "UndeleteReport") -> dict[str, object]:
    """The document of `undelete NAME --json`."""
    return {"returned": [asdict(one) for one in report.returned]}


def trash_json(trash: "Trash", limit: int | None) -> dict[str, object]:
    """The document of `undelete --json` without a name."""
    return {
        "trash": [
            {"removed": iso_time(one.removed_ns), **experiment_json(one.experiment)}
            for one in trash.entries[:limit]
        ],
        "damaged": [asdict(one) for one in trash.damaged],
    }


def diff_json(report: "DiffReport") -> dict[str, object]:
    """The document of `diff --json`."""
    from tensortime.suspects import suspects_of
    from tensortime.verdict_documents import suspect_json

    causes, effects = report.causes, report.effects
    metrics = [{**value_json(one), "delta": one.delta} for one in effects.metrics]
    return {
        "a": side_json(report.a),
        "b": side_json(report.b),
        "same": report.is_empty,
        "causes": {
            "command": None if causes.command is None else command_json(causes.command),
            "params": [value_json(one) for one in causes.params],
            "packages": [value_json(one) for one in causes.packages],
            "code": [path_json(one) for one in causes.code],
            "data": [path_json(one) for one in causes.data],
            "environment": [value_json(one) for one in causes.environment],
            "machine": [value_json(one) for one in causes.machine],
        },
        "ranked": [suspect_json(one) for one in suspects_of(causes)],
        "effects": {"metrics": metrics, "outputs": [path_json(one) for one in effects.outputs]},
        "left_out": [{"path": one.path, "by": one.by, "files": one.files} for one in report.left_out],
        "unknown": list(report.unknown),
    }


def side_json(side: "Side") -> dict[str, object]:
    """One of the two states of a diff."""
    return {
        "experiment": side.experiment,
        "number": side.number,
        "commit": side.commit,
        "note": side.note,
        "time": iso_time(side.time_ns),
        "project": side.project,
    }


def command_json(change: "CommandChange") -> dict[str, object]:
    """Two commands that differ."""
    return {
        "old": list(change.old),
        "new": list(change.new),
        "options": [value_json(one) for one in change.options],
    }


def value_json(change: "ValueChange") -> dict[str, object]:
    """A value that differs."""
    return {"key": change.key, "change": change.change, "old": change.old, "new": change.new}


def path_json(change: "FileChange") -> dict[str, object]:
    """A path that differs."""
    from tensortime.verdict_documents import closeness_json

    hunks = [
        {
            "old_start": hunk.old_start,
            "old_lines": hunk.old_lines,
            "new_start": hunk.new_start,
            "new_lines": hunk.new_lines,
            "lines": list(hunk.lines),
        }
        for hunk in change.hunks
    ]
    return {
        "path": change.path,
        "change": change.change,
        "old_path": change.old_path,
        "old": None if change.old is None else facts_json(change.old),
        "new": None if change.new is None else facts_json(change.new),
        "lines_added": change.lines_added,
        "lines_removed": change.lines_removed,
        "hunks": hunks,
        "numbers": closeness_json(change.closeness),
    }


def facts_json(facts: "FileFacts") -> dict[str, object]:
    """A path in one of the two states."""
    return {
        "kind": facts.kind,
        "bytes": facts.size,
        "mode": None if facts.mode is None else f"{facts.mode:04o}",
        "digest": facts.digest,
        "target": facts.target,
        "files": facts.files,
        "newest": facts.newest,
    }


def verify_json(report: VerifyReport) -> dict[str, object]:
    """The document of `verify --json`."""
    return {
        "ok": not report.problems,
        "checked": {
            "backups": report.backups,
            "git_objects": report.git_objects,
            "objects": report.objects,
            "bytes_read": report.bytes_read,
            "bytes": report.bytes_all,
        },
        "problems": [problem_json(one) for one in report.problems],
        "repaired": [{"kind": one.kind, "what": one.what, "done": one.repair} for one in report.repaired],
        "seconds": round(report.seconds, 3),
    }


def problem_json(one: Problem) -> dict[str, object]:
    """One problem of a store."""
    return {
        "kind": one.kind,
        "what": one.what,
        "reason": one.reason,
        "experiments": list(one.experiments),
        "paths": list(one.paths),
    }


def gc_json(report: GcReport) -> dict[str, object]:
    """The document of `gc --json`."""
    return {
        "dry_run": report.dry_run,
        "freed": report.freed,
        "waiting": report.waiting,
        "held": dict(report.held),
        "trash": list(report.trash),
        "objects": report.objects,
        "packs": report.packs,
        "rewritten": report.rewritten,
        "leftovers": report.leftovers,
        "kept": [str(one) for one in report.kept],
        "notes": [str(one) for one in report.notes],
        "seconds": round(report.seconds, 3),
    }


def purge_json(report: PurgeReport) -> dict[str, object]:
    """The document of `purge --json`."""
    return {
        "dry_run": report.dry_run,
        "paths": list(report.paths),
        "experiments": list(report.experiments),
        "commits": report.commits,
        "files": report.files,
        "bytes": report.bytes,
        "still_needed": report.still_needed,
        "worktrees": list(report.worktrees),
        "waiting": report.waiting,
        "notes": [str(one) for one in report.notes],
        "seconds": round(report.seconds, 3),
    }


def doctor_json(report: DoctorReport) -> dict[str, object]:
    """The document of `doctor --json`."""
    checks = [{"name": one.name, "state": one.state, "message": str(one.said)} for one in report.checks]
    return {"ok": report.exit_code == 0, "checks": checks}


def error_json(error: TensorTimeError) -> dict[str, object]:
    """The document of a failed command with `--json`."""
    return {"error": {"kind": error.kind, "message": str(error), "hint": str(error.hint)}}


def json_text(document: Mapping[str, object]) -> str:
    """A document as it is printed: ASCII, so that any terminal and any path survive."""
    return json.dumps(document, ensure_ascii=True, indent=2, default=str)
