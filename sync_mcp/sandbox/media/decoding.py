"""Decoding that goes on after what cannot be decoded, as players do."""

# PyAV does not type the streams of its packets.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from collections.abc import Iterator, Sequence
from contextlib import suppress

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sync_mcp.media.decoding.probe import check_decoder


def decode_frames(
    container: InputContainer, streams: Sequence[VideoStream | AudioStream]
) -> Iterator[VideoFrame | AudioFrame]:
    """Yield the frames of some streams of a file.

    Raises:
        MediaError: the product would not decode one of them either.
    """
    for stream in streams:
        check_decoder(stream)
    for packet in container.demux(*streams):
        frames: Sequence[object] = ()
        with suppress(FFmpegError, EOFError, ValueError):
            frames = packet.decode()
        for frame in frames:
            if isinstance(frame, VideoFrame | AudioFrame):
                yield frame
