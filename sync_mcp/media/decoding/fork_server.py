"""The process that forks a worker for each of many files: `python -m sync_mcp.media.decoding.fork_server`.

To import the decoders takes ten times as long as a look at a short clip: here it is done once. This process
reads no file itself. Each is looked at by a process of its own, whose rights and limits are a worker's, and
which can reach neither this channel nor any other file: a hostile one has nothing to do with those behind it.

Standard input is a socket. An order is a task and its seconds, with two descriptors: the file, and where the
answer goes. When the worker has ended, a byte comes back. Once nobody holds the other end any more, the
worker is killed, and this process ends. (Linux alone.)
"""

import gc
import os
import select
import signal
import socket

from sync_mcp.media.decoding.worker import do_task, find_deadline, import_decoders

_ORDER_BYTES = 100


def main() -> None:
    """Fork whenever it is ordered to, until nobody is there to order more."""
    import_decoders()
    # What is frozen is not written to by a search for garbage, and so is not copied in each process.
    gc.collect()
    gc.freeze()
    channel = socket.socket(fileno=0)
    while True:
        order, descriptors, *_ = socket.recv_fds(channel, _ORDER_BYTES, 2)
        if not order:
            return
        task, seconds = order.decode().split()
        pid = os.fork()
        if pid == 0:
            _work(task, float(seconds), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if not _wait_for(pid, channel):
            return
        channel.send(b".")


def _work(task: str, seconds: float, descriptors: list[int]) -> None:
    """Be a worker to the end, with nothing open but three streams: the file takes the channel's place."""
    try:
        for stream, descriptor in enumerate(descriptors):
            os.dup2(descriptor, stream)
            os.close(descriptor)
        do_task(task, seconds, find_deadline(seconds))
    finally:
        # Not by the way up: that is this server's.
        os._exit(0)


def _wait_for(pid: int, channel: socket.socket) -> bool:
    """Wait for the end of a worker, or end it where nobody waits any more; return whether somebody does."""
    handle = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([handle, channel], [], [])
        # While it runs, nothing but the channel's end can come there.
        is_wanted = channel not in ready
        if not is_wanted:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return is_wanted
    finally:
        os.close(handle)


if __name__ == "__main__":
    main()
