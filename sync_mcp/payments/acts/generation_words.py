"""What a generation is called, to the user, to the ledger and in lists."""

from collections.abc import Mapping, Sequence
from typing import cast
from urllib.parse import unquote

from sync_mcp.api.models import Json
from sync_mcp.texts import count_of, in_quotes, safe, without_queries

Inputs = Sequence[tuple[Json, str | None]]
"""Each input as JSON, and what it is called where it is a local file."""

_SCRIPT_SHOWN = 80
_PLACE_SHOWN = 300
_SHORT_ID = 40
"""A voice's id of no more characters is shown beside its name."""
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


def summarize(body: Json, inputs: Inputs) -> str:
    """Return one line for the user, without query strings."""
    parts = [_describe_input(item, name) for item, name in inputs]
    if isinstance(body.get("dubParams"), Mapping):
        parts.append(f"dubbed into {safe(str(body['dubParams'].get('targetLang')), 20)}")
    if isinstance(body.get("dialogueEdit"), Mapping):
        parts.append(f"dialogue edit {safe(str(body['dialogueEdit'].get('id')), _PLACE_SHOWN)}")
    return f"{safe(str(body['model']), 80)}: {', '.join(parts)}"


def name_in_list(body: Json, inputs: Inputs, room: int) -> str:
    """Return what it is called in a list: the clip, what it says, and what else tells it from its like.

    "talk.mp4 + ben.wav", "photo.jpg: "Welcome to our…"", "talk.mp4, dubbed into fr".
    """
    clips: list[str] = []
    voices: list[str] = []
    scripts: list[str] = []
    for item, name in inputs:
        if isinstance(item.get("provider"), Mapping):
            scripts.append(str(item["provider"].get("script", "")))
        else:
            is_clip = item.get("type") in ("video", "image")
            (clips if is_clip else voices).append(_name_input(item, name))
    end = ""
    if isinstance(body.get("dubParams"), Mapping):
        end = f", dubbed into {safe(str(body['dubParams'].get('targetLang')), 8)}"
    elif isinstance(body.get("dialogueEdit"), Mapping):
        end = f", dialogue edit {safe(str(body['dialogueEdit'].get('id')), 80).partition('-')[0]}"
    return _name_from(clips, voices, scripts, room - len(end)) + end


def list_pieces(
    body: Json, inputs: Inputs, voice_names: Mapping[str, str], webhook_host: str | None
) -> list[str]:
    """Return what is to be made, a line for each piece, with what others wrote in quotes and bounded."""
    lines = [f"model: {in_quotes(str(body.get('model', '')))}"]
    for item, name in inputs:
        lines.extend(_input_lines(item, name, voice_names))
    dub = body.get("dubParams")
    if isinstance(dub, Mapping):
        lines.append(f"dubbed into: {in_quotes(str(cast(Json, dub).get('targetLang')))}")
    edit = body.get("dialogueEdit")
    if isinstance(edit, Mapping):
        lines.append(f"dialogue edit: {in_quotes(str(cast(Json, edit).get('id')))}")
    if body.get("projectId"):
        lines.append(f"project: {in_quotes(str(body['projectId']))}")
    if webhook_host is not None:
        lines.append(f"the finished video's URL goes to: {in_quotes(webhook_host)}")
    return lines


def _name_from(clips: Sequence[str], voices: Sequence[str], scripts: Sequence[str], room: int) -> str:
    clip = " + ".join(clips)
    if len(voices) + len(scripts) > 1:
        said = f" + {len(voices) + len(scripts)} voices"
        return _cut_in_the_middle(clip, room - len(said)) + said
    if scripts:
        # A clip with a long name leaves half of the room to what is said.
        clip = _cut_in_the_middle(clip, room // 2)
        return f'{clip}: "{safe(scripts[0], room - len(clip) - 4)}"'
    if voices:
        room -= 3
        voice = _cut_in_the_middle(voices[0], max(room // 2, room - len(clip)))
        return f"{_cut_in_the_middle(clip, room - len(voice))} + {voice}"
    return _cut_in_the_middle(clip, room)


def _cut_in_the_middle(name: str, limit: int) -> str:
    """Return a name, cut in its middle where it is too long: what tells files apart stands at its ends."""
    if len(name) <= limit:
        return name
    tail = limit // 2
    return f"{name[: limit - tail - 1]}…{name[-tail:]}"


def _name_input(item: Json, name: str | None) -> str:
    """Return what an input is called: the name of its file, without folders."""
    asset_id = str(item.get("assetId") or "")
    if name is None and asset_id:
        name = f"asset {asset_id.partition('-')[0]}"
    if name is None:
        place = without_queries(str(item.get("url") or "")).partition("?")[0]
        name = unquote(place.rstrip("/").rpartition("/")[2])
    return safe(name, _PLACE_SHOWN) or safe(str(item.get("type")), 20)


def _describe_input(item: Json, name: str | None) -> str:
    kind = safe(str(item.get("type")), 20)
    if isinstance(item.get("provider"), Mapping):
        provider: Json = item["provider"]
        script = safe(str(provider.get("script", "")), _SCRIPT_SHOWN)
        return f'{kind} "{script}" (voice {safe(str(provider.get("voiceId")), 80)})'
    place = name or str(item.get("url") or item.get("assetId") or "")
    return f"{kind} {safe(without_queries(place), _PLACE_SHOWN)}"


def _input_lines(item: Json, name: str | None, voice_names: Mapping[str, str]) -> list[str]:
    kind = str(item.get("type"))
    label = kind if kind in ("video", "image", "audio", "text") else "input"
    provider = item.get("provider")
    if isinstance(provider, Mapping):
        voice = str(cast(Json, provider).get("voiceId"))
        script = str(cast(Json, provider).get("script", ""))
        # It is cut where it is long, and all of it is said and paid for.
        length = count_of(len(script), "character")
        return [
            f"script ({length}): {in_quotes(script)}",
            f"voice: {_describe_voice(voice, voice_names.get(voice))}",
        ]
    return [f"{label}: {in_quotes(name or str(item.get('url') or item.get('assetId') or ''))}"]


def _describe_voice(voice: str, name: str | None) -> str:
    # A voice id has its own alphabet: a sentence in it is none.
    id = in_quotes("".join(character for character in voice if character in _ID_CHARACTERS))
    if not name:
        return id
    return f"{in_quotes(name)}, id {id}" if len(voice) <= _SHORT_ID else in_quotes(name)
