"""The two verbs that carry an experiment elsewhere: one file out, one file in."""

import os

from tensortime import exporting, importing
from tensortime.answers import ExportReport, ImportReport
from tensortime.errors import BadBundle, message
from tensortime.history import damage_in
from tensortime.lookup import PathLike, as_meant, locate, resolve, store_trouble
from tensortime.messages import CHINESE_CODE, ENGLISH, Translator
from tensortime.monitor import SILENT, Monitor
from tensortime.names import ExperimentName
from tensortime.project import refuse_store_around, refuse_wide_project
from tensortime.store import create_store, open_store


def export_experiment(
    experiment: str,
    file: PathLike,
    *,
    directory: PathLike | None = None,
    store: PathLike | None = None,
    monitor: Monitor = SILENT,
) -> ExportReport:
    """Write one backup of an experiment and those before it into a new file, `.zip` or `.tar`.

    Its files lie in it as `restore` would make them, beside a README; `import_file` takes it in, with its history.
    Never over an existing file.
    """
    place, _ = locate(directory, store)
    opened = open_store(place.store)
    target = resolve(place, opened, experiment)
    path = os.path.abspath(os.fspath(file))
    path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    if path.startswith(place.project.rstrip("/") + "/"):
        told = {"file": path, "pattern": os.path.relpath(path, place.project)}
        monitor.warn(
            message(
                "{file} lies in the project: a line /{pattern} in .ttignore keeps backups from storing it",
                **told,
            )
        )
    with damage_in(target):
        return exporting.export(opened, target, path, (ENGLISH, Translator(CHINESE_CODE)), monitor)


def import_file(
    file: PathLike,
    *,
    name: str | None = None,
    directory: PathLike | None = None,
    store: PathLike | None = None,
    monitor: Monitor = SILENT,
) -> ImportReport:
    """Take an experiment in from a file that `export_experiment` wrote, here or elsewhere.

    The file is not trusted: every byte is checked, nothing of it runs, and it is refused as a whole where something is
    not right. `name`: another name than the one in the file; a taken one becomes `name-2`. The store is made if there
    is none.
    """
    path = os.fspath(file)
    if not os.path.isfile(path):
        raise BadBundle("{file} is no file", file=path, hint="name the file that tensortime export wrote")
    importing.check_file(path)  # before a store is made for nothing
    place, _ = locate(directory, store)
    refuse_wide_project(place.project)
    refuse_store_around(place)
    with store_trouble(place.store):
        opened = create_store(place.store)
        try:
            wanted = None if name is None else ExperimentName(as_meant(name))
            return importing.import_file(place, opened, path, wanted, monitor)
        finally:
            opened.give_to_owner()
