"""What may change of an experiment that is stored: its note, and its tags.

A note is part of a commit, so a new one is a new commit with the same tree, number and time; a tag is a ref.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from tensortime import history
from tensortime.errors import BadName, StoreBusy, UnknownExperiment, UsageError, message
from tensortime.experiments import Experiment
from tensortime.folding import fold_when_due
from tensortime.formats import Oid
from tensortime.history import TAGS, Target
from tensortime.names import ExperimentName, problem_of
from tensortime.packs import Kind, PackWriter, encode_commit, object_id, pack_object
from tensortime.publication import ATTEMPTS, sync_ref
from tensortime.shadow import parse_commit
from tensortime.store import Store
from tensortime.trailers import BackupFacts, decode_message, encode_message


def write_note(store: Store, name: ExperimentName, note: str) -> None:
    """Give an experiment another note. UnknownExperiment where it is gone, StoreBusy where others keep moving it."""
    change_facts(store, name, lambda facts: replace(facts, note=note))


def change_facts(store: Store, name: ExperimentName, change: Callable[[BackupFacts], BackupFacts]) -> None:
    """Let an experiment say something else of the same tree. UnknownExperiment, StoreBusy."""
    ref = history.experiment_ref(name)
    with store.in_use(), store.staging() as staging:
        for _ in range(ATTEMPTS):
            tip = store.shadow.ref(ref)
            if tip is None:
                raise gone(name)
            edited = edit_commit(store, staging, tip, change)
            if store.shadow.create_ref(ref, edited, tip):
                sync_ref(store, ref)
                break
        else:
            raise StoreBusy("other backups of {name} keep coming in between", name=name, hint="try again")
    fold_when_due(store)


def gone(name: ExperimentName) -> UnknownExperiment:
    """The error for an experiment that was removed since it was looked up."""
    return UnknownExperiment("{name} was removed meanwhile", name=name, hint="tensortime undelete")


def edit_commit(store: Store, staging: str, tip: Oid, change: Callable[[BackupFacts], BackupFacts]) -> Oid:
    """Write a commit on top of `tip` with the same tree."""
    raw = next(data for _, data in store.shadow.read_objects([tip]))
    headers, text = parse_commit(raw)
    facts = replace(change(decode_message(text)), edited_ns=time.time_ns())
    data = encode_commit(
        bytes.fromhex(headers["tree"]),
        [bytes.fromhex(tip)],
        facts.edited_ns // 1_000_000_000,
        encode_message(facts),
    )
    with PackWriter(store.path(".shadow", "objects", "pack"), staging) as writer:
        writer.add(pack_object(Kind.COMMIT, data))
        writer.finish()
    return Oid(object_id(Kind.COMMIT, data).hex())


def refuse_older(target: Target) -> None:
    """UsageError for a backup that is not its experiment's newest: a note is the whole experiment's."""
    if target.number != target.experiment.backups:
        raise UsageError(
            "the note belongs to the experiment, not to its backup {number}",
            number=target.number,
            hint=message("tensortime note {name} TEXT", name=target.experiment.name),
        )


def add_tags(store: Store, target: Target, tags: Sequence[str]) -> None:
    """Tag the backup that was named. BadName for what can be no tag; then none is set."""
    checked = [tag_name(tag) for tag in tags]
    with store.in_use():
        if store.shadow.ref(history.experiment_ref(target.experiment.name)) is None:
            raise gone(target.experiment.name)
        for tag in checked:
            ref = tag_ref(target.experiment, tag)
            store.shadow.set_ref(ref, target.commit)
            sync_ref(store, ref)


def remove_tags(store: Store, experiment: Experiment, tags: Sequence[str]) -> None:
    """Take tags off an experiment. UsageError for one that it does not have; then none goes."""
    for tag in tags:
        if tag not in experiment.tags:
            raise UsageError(
                "{name} has no tag {tag}",
                name=experiment.name,
                tag=tag,
                hint=message("its tags: {tags}", tags=", ".join(experiment.tags) or "-"),
            )
    with store.in_use():
        for tag in tags:
            store.shadow.delete_ref(tag_ref(experiment, tag))
        store.sync_refs()


def tag_name(tag: str) -> str:
    """A tag; BadName unless it could be an experiment's name too: it is a file's name and typed without quotes."""
    problem = problem_of(tag)
    if problem is not None:
        raise BadName("not a possible tag: {tag} ({problem})", tag=tag[:80], problem=problem)
    return tag


def tag_ref(experiment: Experiment, tag: str) -> str:
    """The full ref of a tag."""
    return f"{TAGS}{experiment.name}/{tag}"
