"""The fields of a wanted video, made into the API's request; all that is wrong with them is said together."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sync_mcp.api import models
from sync_mcp.api.checks import faults_of
from sync_mcp.api.estimate import PRICED_FPS
from sync_mcp.api.languages import language_code
from sync_mcp.api.models import GenerationRequest, Text
from sync_mcp.api.option_matrix import options_to_refuse
from sync_mcp.errors import InvalidRequestError
from sync_mcp.payments.limits import dollars
from sync_mcp.requests.account_facts import AccountFacts
from sync_mcp.requests.lookups import find_model_faults, find_url_fault, match_voices
from sync_mcp.requests.model_facts import KNOWN_MODELS
from sync_mcp.texts import clean, plain_id

_SHOWN_ID = 40


async def make_request(
    account: AccountFacts, fields: dict[str, Any], *, for_price: bool = False
) -> GenerationRequest:
    """Return the request of a wanted video; what it holds of local files is put in later.

    Args:
        account: for whom voices and models are looked up.
        fields: of `GenerationRequest`, by their own names; an input may have a `path` in place of a URL or
            an asset. They are used up.
        for_price: whether it is only to be priced, for which less will do.

    Raises:
        InvalidRequestError: all that is wrong with it.
        SyncError: whether there is such a model cannot be told now.
    """
    fields.setdefault("model", choose_model(fields))
    faults = [fault for number, item in enumerate(fields["input"]) for fault in _find_misplaced(item, number)]
    edit_id = fields.get("dialogue_edit", {}).get("id")
    if edit_id is not None and not plain_id(edit_id):
        shown = clean(edit_id, _SHOWN_ID)
        faults.append(f"dialogue_edit_id {shown!r} can be no id: copy it whole from edit_dialogue.")
    told: set[str] = set()
    for number, item in enumerate(fields["input"]):
        place = f"input[{number}]"
        faults.extend(await _faults_of_places(account, item, place))
        has_file = item.pop("path", None) is not None
        if item["type"] != "text" and not (has_file or item.get("url") or item.get("asset_id")):
            faults.append(f"{place} ({item['type']}) has no path, url or asset_id: {_GIVE_A_FILE}")
            told.add(place)
        if has_file:
            # What it holds is read once all else is known to be right.
            told.add(place)
    for name, language_faults in _put_languages(fields.get("dub", {})):
        faults.extend(language_faults)
        told.add(f"dub.{name}")
    given = models.GenerationRequest.model_validate(fields)
    faults += [
        *faults_of(given, told=told, for_price=for_price),
        *_faults_of_options(given),
        *await _faults_of_boxes(account, given),
    ]
    model_faults = await find_model_faults(account, given.model)
    # Voices are looked for once all else is right: the list is long.
    voice_faults = [] if faults or model_faults else await _put_voices(account, given)
    if faults or model_faults or voice_faults:
        raise _invalid(faults + model_faults + voice_faults, fields["input"], is_model=bool(model_faults))
    return given


def _invalid(faults: list[str], items: Sequence[Mapping[str, Any]], *, is_model: bool) -> InvalidRequestError:
    """Return the error of a request that cannot be; its step names who helps with what is missing."""
    error = InvalidRequestError(faults)
    if any(item["type"] == "text" and not item.get("voice_id", "").strip() for item in items):
        error.advise(next_step="Call list_voices, and give one of its voice_id.")
    elif is_model and len(faults) == 1:
        error.advise(next_step="Take one of these models; list_models says what each is for.")
    return error


_GIVE_A_FILE = "give path, a file on the user's disk, or a public url."


def _faults_of_options(request: GenerationRequest) -> Iterator[str]:
    """Yield the options without which another video would be made and paid than the one asked for."""
    for option in options_to_refuse(request):
        price = dollars(KNOWN_MODELS[_REACTING].usd_per_frame * PRICED_FPS)
        yield f"{option.sentence} Leave it out, or take {_REACTING}, about {price} a second."


_REACTING = "react-1"
_TEXT_FIELDS = ("script", "voice_id", "stability", "similarity_boost")
_FILE_FIELDS = ("url", "path", "asset_id")


def _find_misplaced(item: Mapping[str, Any], number: int) -> Iterator[str]:
    foreign = _FILE_FIELDS if item["type"] == "text" else _TEXT_FIELDS
    for name in foreign:
        if name in item:
            yield f"input[{number}] ({item['type']}) does not take {name}."
    if item["type"] != "text" and "path" in item and (item.get("url") or item.get("asset_id")):
        yield f"input[{number}] has path and {'url' if item.get('url') else 'asset_id'}: give one of them."


async def _faults_of_places(account: AccountFacts, item: Mapping[str, str], place: str) -> list[str]:
    """Return what is wrong with where an item lies, as far as its letters tell."""
    faults: list[str] = []
    asset_id, url = item.get("asset_id"), item.get("url")
    if asset_id is not None and not plain_id(asset_id.strip()):
        faults.append(
            f"{place}.asset_id {clean(asset_id, _SHOWN_ID)!r} can be no id: copy it from upload_asset, or "
            "give a local file as path, and what is on the web as url."
        )
    fault = None if url is None else await find_url_fault(account, url, f"{place}.url")
    return faults if fault is None else [*faults, fault]


async def _faults_of_boxes(account: AccountFacts, request: GenerationRequest) -> list[str]:
    """Return what is wrong with where the file lies that tells who speaks, as far as its letters tell."""
    speaker = request.options.active_speaker_detection if request.options is not None else None
    url = speaker.bounding_boxes_url if speaker is not None else None
    if url is None:
        return []
    place = "options.active_speaker_detection.bounding_boxes_url"
    fault = await find_url_fault(account, url, place, takes_path=False)
    return [] if fault is None else [fault]


async def _put_voices(account: AccountFacts, request: GenerationRequest) -> list[str]:
    """Put the ids of voices in place of their names; return what is wrong with those that are none."""
    texts = {number: item for number, item in enumerate(request.input) if isinstance(item, Text)}
    found = await match_voices(account, [item.voice_id for item in texts.values()])
    faults: list[str] = []
    for number, item in texts.items():
        item.voice_id, fault = found[item.voice_id]
        faults.extend([] if fault is None else [f"input[{number}].voice_id {fault}"])
    return faults


def _put_languages(dub: dict[str, str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Put the codes of the languages of a dub in place of their names; yield which are none, and why."""
    for name in dub:
        try:
            dub[name] = language_code(dub[name], source=name == "source_lang")
        except InvalidRequestError as error:
            yield name, error.faults


def choose_model(fields: Mapping[str, Any]) -> str:
    """Return the model that a video is made by where nobody says which."""
    has_image = any(item["type"] == "image" for item in fields["input"])
    return "sync-3" if has_image or "dialogue_edit" in fields else "lipsync-2"
