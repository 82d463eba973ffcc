"""Make a lip-sync video with the client alone: price, create, wait, output URL.

    SYNC_API_KEY=... python examples/lipsync.py VIDEO_URL SPEECH_URL

On the sandbox (`sync-mcp sandbox`, running beside it) any key will do, and nothing is paid:

    SYNC_API_KEY=any SYNC_BASE_URL=http://127.0.0.1:8787 python examples/lipsync.py \
        http://127.0.0.1:8787/samples/speaker.mp4 http://127.0.0.1:8787/samples/speech.wav
"""

import argparse
import asyncio
import sys

from sync_mcp import AsyncSync, Audio, Generation, SyncError, Video


async def main() -> int:
    arguments = parse_arguments()
    media = [Video(url=arguments.video), Audio(url=arguments.speech)]
    async with AsyncSync() as sync:
        estimate = await sync.generations.estimate_cost(model=arguments.model, input=media)
        print(f"Price: {estimate.estimated_generation_cost} USD ({'; '.join(estimate.assumptions)})")
        if not (arguments.yes or await agreed("Make it? A generation cannot be cancelled. [y/N] ")):
            return 1
        generation = await sync.generations.create(model=arguments.model, input=media)
        print(f"Created: {generation.id}")
        generation = await sync.generations.wait(generation.id, on_update=show)
    if generation.output_url is None:
        print(f"{generation.error_code}: {generation.error}", file=sys.stderr)
        return 1
    print(generation.output_url)
    return 0


async def show(generation: Generation) -> None:
    percent = generation.progress_percent
    print(generation.status if percent is None else f"{generation.status} {percent:.0f} %")


async def agreed(question: str) -> bool:
    try:
        return (await asyncio.to_thread(input, question)).strip().lower() in ("y", "yes")
    except EOFError:
        # Nobody is there to say yes.
        return False


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make the speaker of a video say a recording.")
    parser.add_argument("video", help="URL of the video, reachable by the API")
    parser.add_argument("speech", help="URL of the recording")
    parser.add_argument("--model", default="lipsync-2")
    parser.add_argument("--yes", action="store_true", help="do not ask before paying")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except SyncError as error:
        sys.exit(f"{error.code}: {error.whole_message} {error.next_step}")
