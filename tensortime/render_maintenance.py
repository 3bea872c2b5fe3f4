"""From the reports of verify, gc, purge and doctor to text: pure functions, in the language of the reader."""

from collections.abc import Sequence

from tensortime.answers import BAD, FINE, DoctorReport, GcReport, Problem, PurgeReport, VerifyReport
from tensortime.errors import listing, message
from tensortime.messages import Translator
from tensortime.text import printable, seconds_text, size_text

SHOWN_PROBLEMS = 20
SHOWN_NAMES = 5


def verify_text(report: VerifyReport, tr: Translator) -> list[str]:
    """What a verification found."""
    lines = [
        tr(
            "looked at backups: {backups}, git objects: {git}, large files: {objects}, in {seconds}",
            backups=report.backups,
            git=report.git_objects,
            objects=report.objects,
            seconds=seconds_text(report.seconds, tr),
        )
    ]
    lines += [repaired_line(one, tr) for one in report.repaired]
    for one in report.problems[:SHOWN_PROBLEMS]:
        lines += problem_text(one, tr)
    if len(report.problems) > SHOWN_PROBLEMS:
        lines.append(tr("… and {count} more; --json lists all", count=len(report.problems) - SHOWN_PROBLEMS))
    if report.bytes_all:
        lines.append(
            tr(
                "read {read} of {all}: every byte of it {state}",
                read=size_text(report.bytes_read),
                all=size_text(report.bytes_all),
                state=tr("was looked at") if report.problems else tr("is as it was stored"),
            )
        )
    return lines + (verdict(report, tr) if report.problems else [all_there(report, tr)])


def all_there(report: VerifyReport, tr: Translator) -> str:
    """The last line where nothing is wrong."""
    if report.bytes_all:
        return tr("all is there")
    return tr("all is there; whether the bytes are right, --read-data tells")


def verdict(report: VerifyReport, tr: Translator) -> list[str]:
    """What damage means, and what to do about it."""
    broken = list(dict.fromkeys(name for one in report.lost for name in one.experiments))
    lines = []
    if broken:
        lines.append(tr("cannot come back whole: {names}", names=names_text(broken, tr)))
        lines.append(
            tr(
                "the next tensortime backup of a project that still has these files stores them again, for all of them"
            )
        )
    else:
        lines.append(tr("no backup needs what is damaged"))
    if not report.repaired:
        lines.append(tr("tensortime verify --repair moves aside what is provably wrong"))
    return lines


def problem_text(one: Problem, tr: Translator) -> list[str]:
    """One problem: what, why, and who needs it."""
    lines = [
        tr(
            "{kind}: {what}: {reason}",
            kind=kind_text(one.kind, tr),
            what=printable(one.what),
            reason=tr.known(one.reason),
        )
    ]
    if one.experiments:
        lines.append("  " + tr("needed by {names}", names=names_text(one.experiments, tr)))
    if one.paths:
        lines.append("  " + tr("as {names}", names=names_text(one.paths, tr)))
    return lines


def kind_text(kind: str, tr: Translator) -> str:
    """What sort of problem it is."""
    texts = {
        "ref": message("broken name"),
        "pack": message("damaged pack"),
        "missing": message("missing"),
        "damaged": message("damaged"),
        "manifest": message("damaged manifest"),
        "purging": message("damaged list"),
        "copy": message("damaged copy"),
    }
    return tr.text(texts[kind])


def repaired_line(one: Problem, tr: Translator) -> str:
    """One thing that was done."""
    return tr("{what}: {done}", what=printable(one.what), done=tr.known(one.repair))


def names_text(names: Sequence[str], tr: Translator) -> str:
    """Some names, and how many more."""
    return tr.text(listing([printable(name) for name in names], SHOWN_NAMES))


def holder_text(kind: str, size: str, tr: Translator) -> str:
    """What holds so many bytes."""
    texts = {
        "experiments": message("{size} experiments", size=size),
        "worktrees": message("{size} restored worktrees and what was committed in them", size=size),
        "trash": message("{size} the trash: tensortime gc --trash frees it", size=size),
        "unused": message(
            "{size} nobody needs, in packs that are mostly needed, or that may yet be needed", size=size
        ),
        "damaged": message(
            "{size} damaged, moved aside by verify --repair: tensortime gc --trash frees it", size=size
        ),
    }
    return tr.text(texts[kind])


def gc_text(report: GcReport, tr: Translator) -> list[str]:
    """What a gc did or would do, and what holds the rest."""
    freed = size_text(report.freed) if report.freed >= 0 else "0 B"
    if report.dry_run:
        lines = [tr("would free {size}", size=freed)]
    else:
        lines = [tr("freed {size} in {seconds}", size=freed, seconds=seconds_text(report.seconds, tr))]
    lines += [f"  {part}" for part in parts_text(report, tr)]
    if report.waiting:
        lines.append(
            tr(
                "{size} more wait for a gc a day from now: this file system has no locks that all machines heed",
                size=size_text(report.waiting),
            )
        )
    lines += [tr.text(one) for one in (*report.notes, *report.kept)]
    if report.kept:
        lines.append(tr("nothing is freed that this may need"))
    held = [(kind, size) for kind, size in report.held if size]
    if held:
        lines.append(tr("still held: {size}", size=size_text(sum(size for _, size in held))))
    return lines + ["  " + holder_text(kind, size_text(size), tr) for kind, size in held]


def parts_text(report: GcReport, tr: Translator) -> list[str]:
    """What went, one line a sort."""
    rows = (
        (len(report.trash), message("names out of the trash: {count}", count=len(report.trash))),
        (report.objects, message("large files: {count}", count=report.objects)),
        (report.packs, message("packs: {count}", count=report.packs)),
        (
            report.rewritten,
            message("packs written anew without what nobody needs: {count}", count=report.rewritten),
        ),
        (report.leftovers, message("leftovers of processes that are gone: {count}", count=report.leftovers)),
    )
    return [tr.text(text) for count, text in rows if count]


def purge_text(report: PurgeReport, tr: Translator) -> list[str]:
    """What a purge took out, or would take out, and what of it is still somewhere."""
    names = names_text(report.paths, tr)
    what = {"names": names, "size": size_text(report.bytes), "files": report.files}
    where = {"experiments": names_text(report.experiments, tr), "count": report.commits}
    if not report.commits:
        lines = [tr("no backup has {names}", names=names)]
    elif report.dry_run:
        lines = [
            tr("{names}: {size}, different files: {files}", **what),
            tr("would go out of {experiments}, backups and edits: {count}", **where),
        ]
    else:
        lines = [
            tr("purged {names}: {size} freed, different files: {files}", **what),
            tr("out of {experiments}, backups and edits: {count}", **where),
        ]
    if report.still_needed:
        lines.append(
            tr(
                "at other paths too, which still have the bytes: {count}",
                count=report.still_needed,
            )
        )
    lines += [tr("still in a restored folder: {path}", path=printable(path)) for path in report.worktrees]
    if report.waiting:
        lines.append(tr("{size} go with a tensortime gc a day from now", size=size_text(report.waiting)))
    lines += [tr.text(one) for one in report.notes]
    if report.commits and not report.dry_run:
        lines.append(
            tr(
                "a line in .ttignore keeps the next backup from storing it again; a secret that leaked has to be replaced"
            )
        )
    return lines


def doctor_text(report: DoctorReport, tr: Translator) -> list[str]:
    """One line a check: whether there is something to do, and what."""
    marks = {FINE: "  ", BAD: "! "}
    lines = []
    for one in report.checks:
        sizes = {
            key: size_text(size)
            for key, size in one.said.values.items()
            if key == "size" and isinstance(size, int)
        }
        said = tr(one.said.template, **{**one.said.values, **sizes})
        lines.append(f"{marks.get(one.state, '- ')}{one.name:<10}{printable(said)}")
    return lines
