"""What a call asks for, made into the API's request; all that is wrong with it is said together."""

from collections.abc import Iterator, Mapping, Sequence

from sync_mcp.api import models
from sync_mcp.api.checks import faults_of
from sync_mcp.api.estimate import PRICED_FPS
from sync_mcp.api.fields import REQUEST
from sync_mcp.api.languages import language_code
from sync_mcp.api.models import GenerationRequest, Text
from sync_mcp.api.option_matrix import options_to_refuse
from sync_mcp.errors import InvalidRequestError
from sync_mcp.payments.limits import dollars
from sync_mcp.texts import clean, plain_id
from sync_mcp.tools.account import Account
from sync_mcp.tools.generation_arguments import EstimateArguments, InputItem, RequestArguments
from sync_mcp.tools.lookups import find_model_faults, find_url_fault, match_voices
from sync_mcp.tools.models import KNOWN_MODELS

_SHOWN_ID = 40


async def read_request(
    account: Account, arguments: RequestArguments, *, is_row: bool = False
) -> GenerationRequest:
    """Return what is to be made or priced; a row of a batch has no webhook of its own."""
    model = _choose_model(arguments)
    fields = arguments.model_dump(exclude_none=True, include=set(REQUEST))
    if account.policy.webhook_url is not None and not is_row:
        fields.setdefault("webhook_url", account.policy.webhook_url)
    faults = [fault for number, item in enumerate(arguments.input) for fault in _find_misplaced(item, number)]
    if arguments.dialogue_edit_id is not None:
        edit_id = arguments.dialogue_edit_id.strip()
        fields["dialogue_edit"] = {"id": edit_id}
        if not plain_id(edit_id):
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
    given = models.GenerationRequest.model_validate({**fields, "model": model})
    faults += [
        *faults_of(given, told=told, for_price=isinstance(arguments, EstimateArguments)),
        *_faults_of_options(given),
        *await _faults_of_boxes(account, given),
    ]
    model_faults = await find_model_faults(account, model)
    # Voices are looked for once all else is right: the list is long.
    voice_faults = [] if faults or model_faults else await _put_voices(account, given)
    if faults or model_faults or voice_faults:
        raise _invalid(faults + model_faults + voice_faults, arguments, is_model=bool(model_faults))
    return given


def _invalid(faults: list[str], arguments: RequestArguments, *, is_model: bool) -> InvalidRequestError:
    """Return the error of a request that cannot be; its step names who helps with what is missing."""
    error = InvalidRequestError(faults)
    if any(item.type == "text" and not (item.voice_id or "").strip() for item in arguments.input):
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


def _find_misplaced(item: InputItem, number: int) -> Iterator[str]:
    foreign = _FILE_FIELDS if item.type == "text" else _TEXT_FIELDS
    for name in foreign:
        if getattr(item, name) is not None:
            yield f"input[{number}] ({item.type}) does not take {name}."
    if item.type != "text" and item.path is not None and (item.url or item.asset_id):
        yield f"input[{number}] has path and {'url' if item.url else 'asset_id'}: give one of them."


async def _faults_of_places(account: Account, item: Mapping[str, str], place: str) -> list[str]:
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


async def _faults_of_boxes(account: Account, request: GenerationRequest) -> list[str]:
    """Return what is wrong with where the file lies that tells who speaks, as far as its letters tell."""
    speaker = request.options.active_speaker_detection if request.options is not None else None
    url = speaker.bounding_boxes_url if speaker is not None else None
    if url is None:
        return []
    place = "options.active_speaker_detection.bounding_boxes_url"
    fault = await find_url_fault(account, url, place, takes_path=False)
    return [] if fault is None else [fault]


async def _put_voices(account: Account, request: GenerationRequest) -> list[str]:
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


def _choose_model(arguments: RequestArguments) -> str:
    if arguments.model:
        return arguments.model.strip()
    return "sync-3" if has_image(arguments) or arguments.dialogue_edit_id else "lipsync-2"


def has_image(arguments: RequestArguments) -> bool:
    return any(item.type == "image" for item in arguments.input)
