"""The kinds of paid acts by their names in the ledger, for what is asked of an entry without its act."""

from sync_mcp.payments.acts.act import Job, PaidAct
from sync_mcp.payments.acts.clone import CloneAct
from sync_mcp.payments.acts.dialogue_edit import DialogueEditAct
from sync_mcp.payments.acts.generation import GenerationAct
from sync_mcp.payments.acts.speech import SpeechAct

KINDS: dict[str, type[PaidAct[Job]]] = {
    kind.kind: kind for kind in (GenerationAct, SpeechAct, CloneAct, DialogueEditAct)
}
