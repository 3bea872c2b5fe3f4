"""What a rerun is compared by: the inputs of an experiment, its outputs, and how they came out in another one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tensortime import history
from tensortime.closeness import compare_numbers, is_numeric
from tensortime.comparison import compare
from tensortime.differences import FILE, MODE, Causes
from tensortime.formats import META, RelPath, bytes_of, covering, folders_above, text_of
from tensortime.history import Target
from tensortime.monitor import Monitor
from tensortime.pairs import Pair, State, output_folders, pair_up
from tensortime.store import Store
from tensortime.stored import Stored, left_out_of
from tensortime.verdict import DIFFERS, EXTRA, IDENTICAL, MISSING, UNWRITTEN, OutputResult, result_of


@dataclass(frozen=True)
class Recorded:
    """A backup that is to be run again."""

    asked: Target
    inputs: Target
    """The last whole backup at or below it."""
    run: Mapping[str, object]
    """run.json of the inputs."""
    result: Mapping[str, object]
    """How the command ended, as far as that was recorded."""
    packages: bytes | None
    outputs: frozenset[RelPath]
    top_outputs: tuple[RelPath, ...]
    """The same, folders of nothing else in place of what is in them."""
    late: frozenset[RelPath] = frozenset()
    """Files that belong to the inputs and could not be stored with them, but were later."""
    edited: frozenset[RelPath] = frozenset()
    """Sources that are here as they were before the command, and were others when it ended."""


def read_recorded(store: Store, target: Target) -> Recorded:
    """What is known of a backup and the inputs that it is on top of. Damaged, GitFailed."""
    stored = Stored(store, target)
    with history.damage_in(target):
        number, outputs = stored.on_top
        inputs = history.numbered(store.shadow, target.experiment, number)
        meta = history.read_meta(store.shadow, store.shadow.tree(inputs.commit, META))
    run, told = history.run_of(meta), history.run_of(stored.meta)
    result = told.get("result")
    wanting = left_out_of(run, ("skipped",)) if number != target.number else frozenset()
    folders = output_folders(stored.files(), outputs) if outputs else frozenset()
    tops = {
        next((top for top in reversed([*folders_above(path)]) if top in folders), path) for path in outputs
    }
    return Recorded(
        target,
        inputs,
        run,
        result if isinstance(result, dict) else {},
        meta.get(b"packages.txt"),
        outputs,
        tuple(sorted(tops)),
        frozenset(RelPath(path) for path in stored.files() if covering(RelPath(path), wanting) is not None),
        kept_as_they_were(told),
    )


@dataclass(frozen=True)
class Compared:
    """All outputs of two experiments."""

    outputs: tuple[OutputResult, ...]
    unrecorded: int
    """Files that only the second made, where the first does not claim to know all that it made."""


def compare_outputs(
    store: Store,
    old: Target,
    new: Target,
    rtol: float,
    is_passed_over: Callable[[RelPath], bool],
    monitor: Monitor,
) -> Compared:
    """Every output of two backups, by path. Damaged, GitFailed."""
    first, second = Stored(store, old), Stored(store, new)
    before, after = first.state(), second.state()
    pairs = {pair.path: pair for pair in pair_up(before, after)}
    had, has = set(first.files()), set(second.files())
    made, remade = first.on_top[1], second.on_top[1]
    unknown = kept_as_they_were(history.run_of(first.meta))
    # With the bytes of the inputs it is no news, unless the first run wrote it too.
    remade -= second.rewritten - made
    folders = output_folders(had, made) if made else frozenset()
    there = had | has
    paths = [path for path in sorted(made | remade) if path in there and not is_passed_over(path)]
    monitor.begin("compare", len(paths), sum(after.items[path].size for path in paths if path in after.items))
    found, unrecorded = list[OutputResult](), 0
    for path in paths:
        is_new = path not in had and not any(one in folders for one in folders_above(path))
        if path in unknown or (is_new and not first.lists_outputs):
            unrecorded += 1
        else:
            result = compared(path, path in had, path in has, pairs.get(path), before, after, rtol)
            # What came with the inputs proves nothing.
            lies_there = path in made and path in had and path in has and path not in remade
            found.append(OutputResult(text_of(path), UNWRITTEN) if lies_there else result)
        monitor.advance(1, after.items[path].size if path in after.items else 0)
    return Compared(tuple(found), unrecorded)


def kept_as_they_were(run: Mapping[str, object]) -> frozenset[RelPath]:
    """The source files that were others when the first run ended: its experiment has them as they were before.

    Whether a person or the command wrote them nobody knows, nor what the command would have made of them.
    """
    paths = run.get("edited")
    return frozenset(RelPath(bytes_of(str(one))) for one in paths) if isinstance(paths, list) else frozenset()


def compared(
    path: RelPath, was: bool, there: bool, pair: Pair | None, before: State, after: State, rtol: float
) -> OutputResult:
    """How one output came out."""
    name = text_of(path)
    if not was or not there:
        return OutputResult(name, MISSING if was else EXTRA)
    if pair is None or pair.change == MODE:
        return OutputResult(name, IDENTICAL)
    old, new = before.items[path], after.items[path]
    if (old.kind, new.kind) != (FILE, FILE) or not is_numeric(path):
        return OutputResult(name, DIFFERS)
    with before.open(path) as one, after.open(path) as other:
        closeness = compare_numbers(path, one, old.size, other, new.size)
    return OutputResult(name, result_of(closeness, rtol), closeness)


OURS = frozenset({"PYTHONPATH"})
"""Where modules are searched is decided by the rerun: the same places, as the new folder has them."""

OURS_IF_REBUILT = frozenset({"VIRTUAL_ENV", "python.executable", "python.source"})
"""The environment that was made of the recorded packages lies elsewhere; what is in it is compared all the same."""


def causes_between(
    store: Store, recorded: Recorded, new: Target, *, same_command: bool, rebuilt: bool = False
) -> Causes:
    """What differs between the inputs and surroundings of a run and of its rerun (its newest backup)."""
    first = history.numbered(store.shadow, new.experiment, 1)
    old_facts = history.read_facts(store.shadow, recorded.asked.commit)
    new_facts = history.read_facts(store.shadow, new.commit)
    before, after = Stored(store, recorded.inputs).state(), Stored(store, first).state()
    # Params may have come with a later backup; where only one side tells any, it does not differ, it is not known.
    known = bool(old_facts.params) and bool(new_facts.params)
    before = replace(before, params=old_facts.params if known else None)
    after = replace(after, params=new_facts.params if known else None)
    causes = compare(before, after).causes
    ours = OURS | OURS_IF_REBUILT if rebuilt else OURS
    surroundings = tuple(one for one in causes.environment if one.key not in ours)
    causes = replace(causes, environment=surroundings)
    return replace(causes, command=None) if same_command else causes
