"""How far numbers lie apart, what is suspected, and how a rerun came out, as documents of `--json`. Pure.

docs/json.md describes them, as it does those of `documents`.
"""

import math

from tensortime.gaps import Closeness
from tensortime.suspects import Suspect
from tensortime.verdict import OutputResult, RerunReport, line_of


def closeness_json(closeness: Closeness | None) -> dict[str, object] | None:
    """How far the numbers of two files lie apart; None where they were not compared."""
    if closeness is None:
        return None
    arrays = [
        {
            "name": gap.name,
            "problem": gap.problem or "numbers",
            "max_abs": finite(gap.max_abs),
            "max_rel": finite(gap.max_rel),
        }
        for gap in closeness.gaps
    ]
    return {"max_abs": finite(closeness.max_abs), "max_rel": finite(closeness.max_rel), "arrays": arrays}


def finite(value: float | None) -> float | None:
    """A number, or None where JSON has no word for it."""
    return None if value is None or not math.isfinite(value) else value


def suspect_json(suspect: Suspect) -> dict[str, object]:
    """A cause, and why it stands where it stands."""
    return {
        "category": suspect.category,
        "key": suspect.key,
        "change": suspect.change,
        "old": suspect.old,
        "new": suspect.new,
        "reason": suspect.reason,
        "why": str(suspect.why),
    }


def rerun_json(report: RerunReport) -> dict[str, object]:
    """The document of `rerun --json`."""
    outputs = report.outputs
    return {
        "experiment": report.experiment,
        "parent": report.parent,
        "path": report.path,
        "command": list(report.command),
        "exit_code": report.command_exit,
        "verdict": report.verdict,
        "line": str(line_of(report)) if report.submitted or outputs is not None else None,
        "rtol": report.rtol,
        "outputs": None if outputs is None else [output_json(one) for one in outputs],
        "unrecorded": report.unrecorded,
        "missed": list(report.missed),
        "left_out": list(report.left_out),
        "edited": list(report.edited),
        "causes": [suspect_json(one) for one in report.causes],
        "seconds": round(report.seconds, 3),
    }


def output_json(one: OutputResult) -> dict[str, object]:
    """How one output came out."""
    closeness = one.closeness
    arrays = (closeness_json(closeness) or {}).get("arrays", [])
    return {
        "path": one.path,
        "result": one.result,
        "max_abs": 0.0 if one.result == "identical" else finite(closeness.max_abs) if closeness else None,
        "max_rel": 0.0 if one.result == "identical" else finite(closeness.max_rel) if closeness else None,
        "first": one.first.name if one.first else None,
        "arrays": arrays,
    }
