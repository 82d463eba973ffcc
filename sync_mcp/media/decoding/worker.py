"""The process that decodes: `python -m sync_mcp.media.decoding.worker TASK SECONDS`, a file on stdin.

It runs apart from the server because decoders are large and files may be hostile. Once it has imported what
it needs, it gives up whatever decoding can do without: opening files and connections, writing files, memory
and time beyond a limit. (Windows has the limit of time alone, which the parent keeps.) Where many files are
looked at, `fork_server` forks it for each, and has imported the decoders once.

Standard output is a line `ready`, a line of JSON (`result` or `error`), and after it what is no JSON: a JPEG.
"""

import importlib
import io
import json
import pkgutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import BinaryIO, cast

import av
from PIL import Image, ImageDraw, ImageFont

from sync_mcp.media.decoding.examine import examine
from sync_mcp.media.decoding.findings import ContactSheet, CutShort, MediaError, NotDecodedHere
from sync_mcp.media.decoding.notice import notice
from sync_mcp.media.decoding.probe import probe
from sync_mcp.media.decoding.sheet import draw_sheet, draw_small_sheet
from sync_mcp.media.decoding.wholeness import check_whole

if sys.platform != "win32":
    import resource

READY = b"ready\n"
MEMORY_BYTES = 1536 * 1024 * 1024

_Answer = tuple[dict[str, object], bytes]
_TIME_SHARE = 0.8
"""Decoding gets this share of the time that the parent gives; the rest is for starting and answering."""
_THREADS = 2
_WHY: dict[type[MediaError], str] = {NotDecodedHere: "not decoded here", CutShort: "cut short"}


def _answer_look(file: BinaryIO, deadline: float) -> _Answer:
    """Answer with the fields of a `MediaInfo`, for a file that is whole."""
    check_whole(file)
    return asdict(notice(file, probe(file, count_until=deadline), deadline)), b""


def _answer_examine(file: BinaryIO, deadline: float) -> _Answer:
    """Answer with the fields of an `Examination`."""
    return asdict(examine(file, deadline)), b""


def _answer_sheet(file: BinaryIO, deadline: float) -> _Answer:
    """Answer with the fields of a `ContactSheet`, and its JPEG apart."""
    return _apart(draw_sheet(file, deadline))


def _answer_small_sheet(file: BinaryIO, deadline: float) -> _Answer:
    """Answer as `_answer_sheet`."""
    return _apart(draw_small_sheet(file, deadline))


def _apart(sheet: ContactSheet) -> _Answer:
    fields = asdict(sheet)
    return fields, cast(bytes, fields.pop("jpeg"))


TASKS: dict[str, Callable[[BinaryIO, float], _Answer]] = {
    "look": _answer_look,
    "examine": _answer_examine,
    "contact_sheet": _answer_sheet,
    "small_sheet": _answer_small_sheet,
}


def main() -> None:
    """Do the task that the command line names."""
    task, seconds = sys.argv[1], float(sys.argv[2])
    deadline = find_deadline(seconds)
    import_decoders()
    do_task(task, seconds, deadline)


def find_deadline(seconds: float) -> float:
    """Return until when decoding may take that begins now, on the clock of `time.monotonic()`."""
    return time.monotonic() + seconds * _TIME_SHARE


def do_task(name: str, seconds: float, deadline: float) -> None:
    """Do a task with the file that is open on 0, once this process has given up its rights; answer on 1."""
    task, answers = TASKS[name], sys.stdout.buffer
    _give_up_rights(seconds)
    answers.write(READY)
    answers.flush()
    more = b""
    try:
        # Not buffered, and not closed: the file is the parent's.
        result, more = task(cast(BinaryIO, io.FileIO(0, closefd=False)), deadline)
        answer: dict[str, object] = {"result": result}
    except MediaError as error:
        answer = {"error": error.fault, "why": _WHY.get(type(error), "damaged")}
    except MemoryError:
        answer = {"error": "is too large to be decoded here."}
    answers.write(json.dumps(answer, allow_nan=False).encode() + b"\n" + more)
    answers.flush()


def import_decoders() -> None:
    """Import all that is imported on first use: later no file can be opened."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        # Its command line, and downloads of sample files.
        if not module.name.endswith(("__main__", "datasets")):
            importlib.import_module(module.name)
    Image.preinit()
    ImageDraw.Draw(Image.new("RGB", (1, 1))).text((0, 0), "0", font=ImageFont.load_default(size=12))


def _give_up_rights(seconds: float) -> None:
    if sys.platform == "win32":
        return
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: int(seconds * _THREADS) + 1,
        # Those three that are open stay open, and no other can be opened: no file, no pipe, no connection.
        resource.RLIMIT_NOFILE: 3,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        # Some systems know a limit by name alone.
        try:
            resource.setrlimit(limit, (value, value))
        except (OSError, ValueError):
            continue
    # A parent that was killed kills nobody.
    signal.alarm(int(seconds) + 2)


if __name__ == "__main__":
    main()
