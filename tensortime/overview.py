"""What `tensortime --help` shows: the one page of help for which typer, and what verbs do, need not be loaded."""

from tensortime.manual import Section, manual_page, page_width
from tensortime.messages import Translator
from tensortime.verbs import VERBS


def overview(tr: Translator) -> str:
    """All verbs, and what holds for all of them."""
    about = tr(
        "Back up the whole project at every run: code, data, models. Any day later bring a run back, "
        "byte for byte."
    )
    sections = [
        Section(tr("Verbs:"), [(name, tr.known(verb.help)) for name, verb in VERBS.items()]),
        Section(tr("Options:"), [("-h, --help", tr("Show this and exit."))]),
    ]
    epilog = [
        tr(
            "EXP is a name, a unique beginning or part of one, @ (the newest) or @~2 (two before it); "
            "EXP:1 is its first backup."
        ),
        tr(
            "Exit codes: 0 done · 1 failed · 2 usage · 3 done, but something was skipped or changed while it was "
            "read · 4 no such store or experiment, or ambiguous · 5 damage found, or a result not reproduced · 6 store busy "
            "· 130 interrupted. run ends as its command does, with 126 or 127 where that cannot be started."
        ),
    ]
    usage = " ".join(["tensortime VERB", tr("[OPTIONS]")])
    return "\n".join(manual_page(usage, about, sections, epilog, page_width(), tr))
