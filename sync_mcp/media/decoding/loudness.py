"""How loud a sound is."""

from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

FULL_SCALE = 32768
HEARD_PEAK = 104
"""50 dB below the loudest; under it lies the noise of a silent track."""
_RATE = 8000


class Loudness:
    """The loudest sample of what it is given to hear."""

    def __init__(self) -> None:
        self.peak = 0
        self._resampler = AudioResampler(format="s16", layout="mono", rate=_RATE)

    @property
    def is_heard(self) -> bool:
        """Whether there was more than silence."""
        return self.peak > HEARD_PEAK

    def hear(self, frame: AudioFrame) -> None:
        """Take a frame into account.

        Raises:
            ValueError: it is of another format than the one before it.
        """
        frame.pts = None
        for part in self._resampler.resample(frame):
            samples = memoryview(part.planes[0])[: part.samples * 2].cast("h")
            self.peak = max(self.peak, max(samples, default=0), -min(samples, default=0))
