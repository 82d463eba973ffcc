"""The kinds of paid acts by their names in the ledger, for what is asked of an entry without its act."""

from sync_mcp.payments.acts.act import Job, PaidAct
from sync_mcp.payments.acts.batch import BatchAct
from sync_mcp.payments.acts.clone import CloneAct
from sync_mcp.payments.acts.dialogue_edit import DialogueEditAct
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.acts.speech import SpeechAct
from sync_mcp.payments.rows import Entry

KINDS: dict[str, type[PaidAct[Job]]] = {
    kind.kind: kind for kind in (GenerationAct, SpeechAct, CloneAct, DialogueEditAct, BatchAct)
}


def can_be_found(entry: Entry) -> bool:
    """Return whether a lost send of an entry can be found out: by the API's list, or by its key."""
    act = KINDS.get(entry.kind)
    if act is None:
        return True
    kind = act.job_kind_of(entry.extras)
    return kind.listed is not None or kind.has_keys
