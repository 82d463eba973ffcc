"""The kinds of paid acts by their names in the ledger, for what is asked of an entry without its act."""

from sync_mcp.payments.acts.act import Job, PaidAct
from sync_mcp.payments.acts.clone import CloneAct
from sync_mcp.payments.acts.dialogue_edit import DialogueEditAct
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.acts.speech import SpeechAct

KINDS: dict[str, type[PaidAct[Job]]] = {
    kind.kind: kind for kind in (GenerationAct, SpeechAct, CloneAct, DialogueEditAct)
}


def can_be_found(kind: str) -> bool:
    """Return whether a lost send of this kind can be found out: by the API's list, or by its key."""
    act = KINDS.get(kind)
    return act is None or act.job_kind().listed is not None or act.job_kind().has_keys
