"""What the tests do about the signals that they were started with."""

import signal


def hear_sigint() -> None:
    """Let what tests start hear SIGINT: a script has it ignored by what it puts into the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
