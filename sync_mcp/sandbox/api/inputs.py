"""The media of a job: found in the storage, fetched from this machine, or spoken by the sample voice."""

import wave
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sync_mcp.media.decoding.findings import MediaError
from sync_mcp.sandbox.api.catalogue import Refusal, refusal
from sync_mcp.sandbox.api.contract import MediaItem, is_uuid
from sync_mcp.sandbox.media.fetch import FetchError, is_loopback
from sync_mcp.sandbox.media.measure import Measurement, measure
from sync_mcp.sandbox.media.render import RenderPlan, try_picture
from sync_mcp.sandbox.media.samples import SAMPLE_FILES, sample
from sync_mcp.sandbox.world import World

ALIASES = {
    "https://assets.sync.so/docs/example-video.mp4": "speaker.mp4",
    "https://assets.sync.so/docs/example-audio.wav": "speech.wav",
}
"""URLs of the API's own examples, which stand for the samples here."""

CHARACTERS_PER_SECOND = 15
"""How fast the sample voice is taken to speak a script."""

FindFile = Callable[[str, str], Awaitable[Path | None]]
"""Returns the file behind a path and query of this server, or None."""


@dataclass(frozen=True, slots=True)
class Media:
    """A file and what it holds."""

    path: Path
    info: Measurement


class MediaInputs:
    """Finds the media that the inputs of a job name."""

    def __init__(self, world: World, find_file: FindFile) -> None:
        self._world = world
        self._find_file = find_file

    async def media(self, item: MediaItem, field: str) -> Media:
        """Return the media of an input.

        Raises:
            Refusal: as the API refuses what it cannot fetch, decode or use in this place.
        """
        if item.asset_id is not None:
            path = self._asset_file(item, field)
        else:
            path = await self._fetch(item, item.url or "", field)
        try:
            info = await self._world.in_worker(lambda: measure(path))
        except MediaError as error:
            raise _undecodable(item, field, str(error)) from error
        fits = {"video": info.has_video, "audio": info.has_audio, "image": info.kind == "image"}[item.type]
        if not fits:
            raise _undecodable(item, field, f"It is {_article(info.kind)}.")
        return Media(path, info)

    async def try_picture(self, plan: RenderPlan, item: MediaItem) -> None:
        """Check that an output can be made of the picture of an input.

        Raises:
            Refusal: it cannot.
        """
        try:
            await self._world.in_worker(lambda: try_picture(plan))
        except MediaError as error:
            raise _undecodable(item, "input", str(error)) from error

    async def speech(self, script: str) -> Media:
        """Return the sample voice, repeated or cut to about the length that the script takes to say."""
        seconds = max(1.0, len(script) / CHARACTERS_PER_SECOND)
        path = self._world.storage.fresh("inputs", ".wav")

        def speak() -> Media:
            _repeat_sample_voice(path, seconds)
            return Media(path, measure(path))

        return await self._world.in_worker(speak)

    def dialogue_edit(self, id: str, visual: Media) -> Media:
        """Return the sound of a dialogue edit that is to be rendered into a video.

        Raises:
            Refusal: there is none with a preview, or it is of another video.
        """
        if self._world.settings.dialogue_rollout == "off":
            raise refusal("dialogue_edit_retime_required")
        edit = self._world.contents.dialogue_edits.get(id)
        if edit is None or not edit.has_preview(self._world.clock.now()):
            raise refusal("dialogue_edit_not_found", field="dialogueEdit.id")
        if edit.source != visual.path:
            raise refusal("dialogue_edit_source_mismatch", field="input")
        return Media(edit.preview, measure(edit.preview))

    def _asset_file(self, item: MediaItem, field: str) -> Path:
        asset_id = item.asset_id or ""
        if not is_uuid(asset_id):
            raise refusal("invalid_asset_id_format", field=f"{field}.assetId")
        asset = self._world.contents.assets.get(asset_id)
        if asset is None:
            raise refusal("asset_not_found", field=f"{field}.assetId")
        if asset.fields["type"] != item.type.upper():
            raise refusal("generation_input_asset_type_mismatch", field=f"{field}.assetId")
        return self._world.storage.uploads[asset.url_path].path

    async def _fetch(self, item: MediaItem, url: str, field: str) -> Path:
        if url in ALIASES:
            return sample(ALIASES[url])
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 80
        except ValueError as error:
            raise self._inaccessible(item, field, "it is no URL") from error
        own = urlsplit(self._world.base_url)
        is_here = is_loopback(host) or host == own.hostname
        if is_here and parts.scheme == "http" and port == (own.port or 80):
            found = await self._find_file(unquote(parts.path), parts.query)
            if found is None:
                raise self._inaccessible(item, field, "the sandbox has no such file")
            return found
        path = self._world.storage.fresh("inputs")
        try:
            await self._world.in_worker(lambda: self._world.fetcher.fetch(url, path))
        except FetchError as error:
            raise self._inaccessible(item, field, str(error)) from error
        return path

    def _inaccessible(self, item: MediaItem, field: str, why: str) -> Refusal:
        samples = f"{self._world.base_url}/samples/"
        suggestion = (
            "The sandbox takes http URLs of this machine, uploaded assets (POST /v2/assets/upload) and its "
            f"samples: {', '.join(samples + name for name in SAMPLE_FILES)}"
        )
        return refusal(
            f"generation_input_{item.type}_inaccessible",
            message=f"The {item.type} URL could not be fetched: {why}.",
            suggestion=suggestion,
            field=f"{field}.url",
        )


def place_of(item: MediaItem, field: str) -> str:
    """Return the field that names the media of an input."""
    return f"{field}.assetId" if item.asset_id else f"{field}.url"


def _undecodable(item: MediaItem, field: str, why: str) -> Refusal:
    code = (
        "generation_input_validation_failed"
        if item.type == "image"
        else f"generation_input_{item.type}_invalid"
    )
    message = f"This is no {item.type} that can be used. {why}"
    return refusal(code, message=message, field=place_of(item, field))


def _article(kind: str) -> str:
    return {"audio": "sound alone", "image": "a still image", "video": "a video"}[kind]


def _repeat_sample_voice(path: Path, seconds: float) -> None:
    with wave.open(str(sample("speech.wav")), "rb") as source:
        parameters = source.getparams()
        sound = source.readframes(parameters.nframes)
    frame_bytes = parameters.nchannels * parameters.sampwidth
    wanted = round(seconds * parameters.framerate) * frame_bytes
    with wave.open(str(path), "wb") as target:
        target.setparams(parameters)
        target.writeframes((sound * (wanted // len(sound) + 1))[:wanted])
