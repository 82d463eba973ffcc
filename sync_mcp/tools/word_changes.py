"""Edits of a transcript, from changes that name the words as they are said or by their ids."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from sync_mcp.api.dialogue_edits import MOST_EDITS, WordChange, WordRemoval, faults_of_edits
from sync_mcp.api.transcriptions import Transcript, Word
from sync_mcp.errors import InvalidRequestError
from sync_mcp.texts import clean, fold_words, plain_id
from sync_mcp.tools.dialogue import ChangeArguments

Edit = WordChange | WordRemoval

_SHOWN = 60
_PLACES_SHOWN = 5
_FOLD_LIMIT = 80
_PUNCTUATION = re.compile(r"[^\w\s]+$")


def make_edits(transcript: Transcript, changes: Sequence[ChangeArguments]) -> list[Edit]:
    """Return the API's edits for changes; words that stay as they are, at their ends, are left alone.

    Raises:
        InvalidRequestError: a sentence for every change that cannot be made.
    """
    faults: list[str] = []
    edits: list[Edit] = []
    touched: dict[str, str] = {}
    for number, change in enumerate(changes):
        place = f"changes[{number}]"
        try:
            words = _words_of(transcript, change, place)
            made = list(_edits_of(words, change, place))
        except InvalidRequestError as error:
            faults += error.faults
            continue
        edits += made
        ids = [id for edit in made for id in _ids_of(edit)]
        twice = next((id for id in ids if id in touched), None)
        if twice is not None:
            both = f"{touched[twice]} and {place}"
            faults.append(f"{both} are of the same word {plain_id(twice) or '?'}: make one of them.")
        touched |= dict.fromkeys(ids, place)
    if not faults and len(edits) > MOST_EDITS:
        faults = [
            f"They are {len(edits)} edits of words, and {MOST_EDITS} go into one preview: make several."
        ]
    faults += [] if faults else faults_of_edits(transcript, edits)
    if faults:
        raise InvalidRequestError(faults)
    return edits


def _ids_of(edit: Edit) -> Sequence[str]:
    return [edit.word_id] if isinstance(edit, WordChange) else edit.word_ids


def _words_of(transcript: Transcript, change: ChangeArguments, place: str) -> Sequence[Word]:
    said = transcript.words
    if (change.words is None) == (not change.word_ids):
        raise InvalidRequestError(f"{place} needs words or word_ids, and not both.")
    if change.word_ids:
        ids = [id.strip() for id in change.word_ids]
        known = {word.id: number for number, word in enumerate(said)}
        unknown = [f"{clean(id, _SHOWN)!r}" for id in ids if id not in known]
        if unknown:
            raise InvalidRequestError(
                f"{place}.word_ids: the transcript has no {', '.join(unknown[:_PLACES_SHOWN])}; transcribe "
                "tells the ids."
            )
        found = sorted({known[id] for id in ids})
        if found != list(range(found[0], found[0] + len(found))):
            raise InvalidRequestError(f"{place}.word_ids do not stand in a row: make a change of each row.")
        return said[found[0] : found[-1] + 1]
    wanted = [_fold(text) for text in str(change.words).split()]
    wanted = [text for text in wanted if text]
    heard = [_fold(word.text) for word in said]
    starts = [at for at in range(len(said) - len(wanted) + 1) if heard[at : at + len(wanted)] == wanted]
    shown = clean(str(change.words), _SHOWN)
    if not wanted or not starts:
        raise InvalidRequestError(f"{place}: {shown!r} is not said{_near(wanted, heard, said)}.")
    if len(starts) > 1:
        places = [_place_of(said[at : at + len(wanted)]) for at in starts[:_PLACES_SHOWN]]
        more = f" and {len(starts) - len(places)} more" if len(starts) > len(places) else ""
        raise InvalidRequestError(
            f"{place}: {shown!r} is said {len(starts)} times ({'; '.join(places)}{more}): give word_ids."
        )
    return said[starts[0] : starts[0] + len(wanted)]


def _edits_of(words: Sequence[Word], change: ChangeArguments, place: str) -> Iterator[Edit]:
    """Yield the edits that make these words what they are to be: word by word, as far as they go."""
    texts = (change.replacement or "").split()
    pronunciation = (change.pronunciation or "").strip() or None
    if not texts:
        if pronunciation is not None:
            raise InvalidRequestError(f"{place} removes words: there is no pronunciation to it.")
        yield WordRemoval(word_ids=[word.id for word in words])
        return
    rest = list(words)
    while len(rest) > 1 and len(texts) > 1 and _fold(rest[0].text) == _fold(texts[0]):
        rest, texts = rest[1:], texts[1:]
    while len(rest) > 1 and len(texts) > 1 and _fold(rest[-1].text) == _fold(texts[-1]):
        rest, texts = rest[:-1], texts[:-1]
    if pronunciation is not None and len(rest) > 1:
        raise InvalidRequestError(
            f"{place} changes {len(rest)} words: pronunciation goes with one, so make a change of each."
        )
    # What is more than there were words is said in the place of the last; what is less leaves words out.
    said = [*texts[: len(rest) - 1], " ".join(texts[len(rest) - 1 :])] if len(texts) >= len(rest) else texts
    new = {word.id: _punctuate(text, word) for word, text in zip(rest, said, strict=False)}
    differing = [word.id for word in rest[: len(said)] if new[word.id] != word.text.strip()]
    if pronunciation is not None:
        # The same word, said in another way.
        differing = [rest[0].id]
    if not differing and len(said) == len(rest):
        raise InvalidRequestError(f"{place} changes nothing: that is what is said.")
    for id in differing:
        yield WordChange(word_id=id, replacement=new[id], pronunciation=pronunciation)
    if len(said) < len(rest):
        yield WordRemoval(word_ids=[word.id for word in rest[len(said) :]])


def _punctuate(text: str, word: Word) -> str:
    """Return a text that ends as the word did in whose place it stands."""
    ends = _PUNCTUATION.search(word.text.strip())
    return text if ends is None or _PUNCTUATION.search(text) else f"{text}{ends.group()}"


def _place_of(words: Sequence[Word]) -> str:
    ids = ", ".join(plain_id(word.id) or "?" for word in words[:_PLACES_SHOWN])
    return f"{ids} at {words[0].start_ms / 1000:.1f} s"


def _near(wanted: Sequence[str], heard: Sequence[str], said: Sequence[Word]) -> str:
    """Return the end of a sentence that names a word that is said and is like one that is not."""
    for text in wanted:
        if text not in heard:
            like = get_close_matches(text, heard, n=1)
            if like:
                return f"; {clean(said[heard.index(like[0])].text, _SHOWN)!r} is"
    return "; transcribe tells what is"


def _fold(text: str) -> str:
    return fold_words(text, _FOLD_LIMIT)
