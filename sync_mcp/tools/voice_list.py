"""The tool for voices: those that a script can be spoken in."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import cast

from pydantic import JsonValue

from sync_mcp.api.languages import find_language
from sync_mcp.api.voices import Voice, find_voices, split_search
from sync_mcp.errors import InvalidRequestError
from sync_mcp.texts import VOICE_NAME_LIMIT, WORD_LIMIT, fold_words, near, plain_id, safe
from sync_mcp.tools.context import CallContext
from sync_mcp.tools.core import VoiceRow, VoicesAnswer, VoicesArguments

_ROWS = 10
_NOTE_LIMIT = 100
_LIKE = 0.8
_NEAR_AMONG = 2000
_KINDS_NAMED = 12
_LANGUAGES_NAMED = 20
# "Ada - calm narrator", "Ada (calm narrator)": what stands behind a name is its kind.
_KIND_IN_NAME = re.compile(r"\s[-\u2013\u2014|]\s+(.+)$|\((.+)\)\s*$")
_ALL = "list_voices without arguments lists all."
_USE = (
    "estimate_cost takes one, in an input item of type text (voice_id, script); then create_generation does."
)
_NO_LANGUAGE = "The API tells no voice's language: all of them speak the script's own."


# A plain string in the schema: two words go without saying.
@dataclass(frozen=True, slots=True)
class _Known:
    """A voice as it is shown and searched."""

    told: Voice
    row: VoiceRow
    folded_name: str
    languages: frozenset[str]

    @property
    def kind(self) -> str | None:
        """What stands behind its name, if anything does."""
        found = _KIND_IN_NAME.search(self.row.name or "")
        return safe(found[1] or found[2], WORD_LIMIT) if found else None


async def list_voices(context: CallContext, arguments: VoicesArguments) -> VoicesAnswer:
    known = _list_known(await context.account.lists.voices())
    found = known
    if arguments.language and any(voice.languages for voice in known):
        asked = _language(arguments.language)
        found = [voice for voice in found if asked in voice.languages]
    found = _best_first(found, arguments.search) if arguments.search else _each_kind_first(found)
    begin = _begin(found, arguments.cursor)
    page = [voice.row for voice in found[begin : begin + _ROWS]]
    cursor = page[-1].voice_id if len(found) > begin + _ROWS else None
    return VoicesAnswer(
        kinds=None if arguments.search or arguments.cursor else _kinds(found),
        voices=page,
        next_cursor=cursor,
        note=_name_missing_words(known, arguments) if found else _none_found(known, arguments),
        next_step=_next_step(known, arguments, len(found), cursor) if found else _none_step(known),
    )


def _list_known(voices: Sequence[Voice]) -> list[_Known]:
    """Return the voices that can be named in a create, each once, the account's own first."""
    # What is no id is text of a stranger's.
    usable = {voice.id: voice for voice in voices if plain_id(voice.id)}
    known = [_Known(voice, _row(voice), *_comparison_keys(voice)) for voice in usable.values()]
    return sorted(known, key=lambda voice: voice.row.kind != "cloned")


def _row(voice: Voice) -> VoiceRow:
    notes = [*_languages_of(voice), *_restriction(voice)]
    return VoiceRow(
        voice_id=voice.id,
        name=safe(voice.name or "", VOICE_NAME_LIMIT) or None,
        kind="cloned" if voice.internal_voice_id else "premade",
        note=safe(", ".join(notes), _NOTE_LIMIT) or None,
    )


def _restriction(voice: Voice) -> Iterator[str]:
    told = voice.restriction
    if isinstance(told, Mapping):
        yield from (f"{name}: {value}" for name, value in told.items())
    elif isinstance(told, list):
        yield from map(str, told)
    elif told:
        yield str(told)


def _languages_of(voice: Voice) -> Iterator[str]:
    """Yield the languages of a voice, where the API tells them, which no document says."""
    more = cast(Mapping[str, JsonValue], voice.model_extra or {})
    labels = more.get("labels")
    inside = labels.get("language") if isinstance(labels, Mapping) else None
    for told in (more.get("language"), more.get("languages"), inside):
        words = told if isinstance(told, list) else [told]
        yield from (word for word in words if isinstance(word, str) and word)


def _comparison_keys(voice: Voice) -> tuple[str, frozenset[str]]:
    """Return the name and the languages of a voice as they are searched."""
    return fold_words(voice.name or "", VOICE_NAME_LIMIT), frozenset(map(_language, _languages_of(voice)))


def _language(text: str) -> str:
    """Return a language as it is compared: by its code, without the region."""
    words = fold_words(text, WORD_LIMIT)
    return find_language(words) or find_language(words.partition(" ")[0]) or words


def _each_kind_first(voices: Sequence[_Known]) -> list[_Known]:
    """Return the voices with one of each kind at the beginning, a cloned one before all."""
    first: dict[str, _Known] = {}
    for voice in voices:
        is_cloned = voice.row.kind == "cloned"
        kind = "cloned" if is_cloned else voice.kind and fold_words(voice.kind, WORD_LIMIT)
        if kind:
            first.setdefault(kind, voice)
    shown = {voice.row.voice_id for voice in first.values()}
    return [*first.values(), *(voice for voice in voices if voice.row.voice_id not in shown)]


def _kinds(voices: Sequence[_Known]) -> str | None:
    """Return the kinds that several voices have, the most frequent ones first."""
    count = Counter(voice.kind for voice in voices if voice.kind and voice.row.kind != "cloned")
    several = [f"{kind} ({number})" for kind, number in count.most_common(_KINDS_NAMED) if number > 1]
    return ", ".join(several) or None


def _best_first(voices: Sequence[_Known], search: str) -> list[_Known]:
    """Return the voices whose name has a word of `search`, those that it stands for best first."""
    by_id = {voice.row.voice_id: voice for voice in voices}
    return [by_id[voice.id] for voice in find_voices([voice.told for voice in voices], search)]


def _begin(found: Sequence[_Known], cursor: str | None) -> int:
    if cursor is None:
        return 0
    for number, voice in enumerate(found):
        if voice.row.voice_id == cursor.strip():
            return number + 1
    raise InvalidRequestError(
        "cursor is no next_cursor of this list: copy it whole and keep search and language, or leave it out "
        "to begin again."
    )


def _next_step(known: Sequence[_Known], arguments: VoicesArguments, total: int, cursor: str | None) -> str:
    steps = [_USE]
    if arguments.language and not any(voice.languages for voice in known):
        steps.insert(0, _NO_LANGUAGE)
    if cursor:
        steps.append(f"{total} in all: for more, the same call with cursor {cursor}.")
    return " ".join(steps)


def _none_found(known: Sequence[_Known], arguments: VoicesArguments) -> str:
    if not known:
        return "The account has no voices."
    languages = sorted(set[str]().union(*(voice.languages for voice in known)))
    if arguments.language and languages and _language(arguments.language) not in languages:
        asked = _language(arguments.language)
        some = ", ".join(languages[:_LANGUAGES_NAMED])
        return f"No voice is told to speak {asked!r}{near(asked, languages)} Told: {some}."
    if arguments.language and languages:
        return "No voice of this language has that in its name."
    return _name_missing_words(known, arguments) or "No voice has that in its name."


def _name_missing_words(known: Sequence[_Known], arguments: VoicesArguments) -> str | None:
    return " ".join(_words_of_none(known, arguments.search or "")) or None


def _words_of_none(known: Sequence[_Known], search: str) -> Iterator[str]:
    """Yield what no voice has in its name of what was searched for, with the name that was meant."""
    spoken = sorted({part for voice in known[:_NEAR_AMONG] for part in voice.folded_name.split()})
    for word in split_search(search) if search else ():
        if not any(word in voice.folded_name for voice in known):
            # Names are short: a word that is only a little like one is another word.
            meant = near(word, get_close_matches(word, spoken, n=1, cutoff=_LIKE))
            yield f"No voice has {word!r} in its name{meant}"


def _none_step(known: Sequence[_Known]) -> str:
    if not known:
        return "Give an audio item instead of a text to create_generation."
    return f"Leave a word of search out, or the language. {_ALL}"
