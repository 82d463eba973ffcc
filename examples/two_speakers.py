"""Have two speakers of one clip say a line each: segments say who speaks when, in which voice.

    SYNC_API_KEY=... python examples/two_speakers.py interview.mp4 \
        --say 0 2.2 "Ada - warm storyteller" 420,310 "Is it ready?" \
        --say 2.2 4.5 "Aino - warm storyteller" 900,300 "It is."

Each --say has the seconds from and to, the name or id of a voice, the point of the clip's first frame where
the speaker's face is (in pixels from the top left, or - for whoever is seen to speak), and what is said. The
result comes beside the clip: interview.speakers.mp4.

On the sandbox (`sync-mcp sandbox`, running beside it) any key will do, and nothing is paid: set
SYNC_API_KEY=any and SYNC_BASE_URL=http://127.0.0.1:8787.
"""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import NamedTuple

from sync_mcp import (
    ActiveSpeaker,
    AsyncSync,
    Segment,
    SegmentAudioInput,
    SegmentOptions,
    SyncError,
    Text,
    Video,
    Voice,
)


class Line(NamedTuple):
    """What one speaker says."""

    start: float
    end: float
    voice: str
    face: ActiveSpeaker
    script: str


async def main() -> int:
    arguments = parse_arguments()
    lines = [read_line(words) for words in arguments.say]
    result = arguments.clip.with_suffix(".speakers.mp4")
    if result.exists():
        raise ValueError(f"{result} is there already: move it, or delete it.")
    async with AsyncSync() as sync:
        voices = await sync.voices.list()
        # A segment names its speech by the ref_id of an input.
        speech = [
            Text(script=line.script, voice_id=voice_id(voices, line.voice), ref_id=f"line-{number}")
            for number, line in enumerate(lines)
        ]
        segments = [
            Segment(
                start_time=line.start,
                end_time=line.end,
                audio_input=SegmentAudioInput(ref_id=f"line-{number}"),
                options_override=SegmentOptions(active_speaker_detection=line.face),
            )
            for number, line in enumerate(lines)
        ]
        clip = Video(asset_id=(await sync.assets.upload(arguments.clip)).id)
        media = [clip, *speech]
        estimate = await sync.generations.estimate_cost(model=arguments.model, input=media, segments=segments)
        print(f"Price: {estimate.estimated_generation_cost} USD ({'; '.join(estimate.assumptions)})")
        if not (arguments.yes or await agreed("Make it? A generation cannot be cancelled. [y/N] ")):
            return 1
        job = await sync.generations.create(model=arguments.model, input=media, segments=segments)
        print(f"Created: {job.id}")
        job = await sync.generations.wait(job.id)
        if job.output_url is None:
            print(f"{job.error_code}: {job.error}", file=sys.stderr)
            return 1
        print(await sync.generations.download(job.id, result))
    return 0


def read_line(words: list[str]) -> Line:
    start, end, voice, face, script = words
    if face == "-":
        return Line(float(start), float(end), voice, ActiveSpeaker(auto_detect=True), script)
    point = [float(number) for number in face.split(",")]
    if len(point) != 2:
        raise ValueError(f"{face!r} is no point such as 420,310.")
    # Pointed at in one frame, the face is followed from there on.
    return Line(float(start), float(end), voice, ActiveSpeaker(frame_number=0, coordinates=point), script)


def voice_id(voices: list[Voice], wanted: str) -> str:
    """Return the id of the only voice by this id, or with these words in its name."""
    found = [voice for voice in voices if wanted == voice.id or wanted.lower() in (voice.name or "").lower()]
    if len(found) != 1:
        names = ", ".join(str(voice.name) for voice in (found or voices)[:10])
        raise ValueError(f"{len(found)} voices are called {wanted!r}; name one, such as: {names}.")
    return found[0].id


async def agreed(question: str) -> bool:
    try:
        return (await asyncio.to_thread(input, question)).strip().lower() in ("y", "yes")
    except EOFError:
        # Nobody is there to say yes.
        return False


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Have two speakers of one clip say a line each.")
    parser.add_argument("clip", type=Path)
    parser.add_argument(
        "--say",
        nargs=5,
        action="append",
        required=True,
        metavar=("FROM", "TO", "VOICE", "X,Y", "SCRIPT"),
        help="a line of a speaker; give it once for each",
    )
    parser.add_argument("--model", default="lipsync-2")
    parser.add_argument("--yes", action="store_true", help="do not ask before paying")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except SyncError as error:
        sys.exit(f"{error.code}: {error.whole_message} {error.next_step}")
    except ValueError as error:
        sys.exit(str(error))
