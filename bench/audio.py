"""The CPU that checking audio costs for each MB.

Run it with `python -m bench.audio`.
"""

from __future__ import annotations

import time

from archive.audio import AudioReader
from sandbox.audio import Audio, make_mp3, make_wav

_CHUNK_BYTES = 256 * 1024  # as downloads come
_RUNS = 5


def main() -> None:
    """Print a line for each kind of file: the best of some runs."""
    files: dict[str, tuple[str, Audio]] = {
        "WAV, two channels that sound": ("wav", make_wav("bench", 1000, 2)),
        "WAV, one channel silent": ("wav", make_wav("bench", 1000, 2, silent=True)),
        "MP3 of 16 kbit/s": ("mp3", make_mp3("bench", 4000)),
        "MP3 of 32 kbit/s, two channels": ("mp3", make_mp3("bench", 4000, 2)),
    }
    for name, (audio_format, audio) in files.items():
        data = b"".join(audio.read(0, audio.size))
        chunks = [data[at : at + _CHUNK_BYTES] for at in range(0, len(data), _CHUNK_BYTES)]
        best = min(_cpu_seconds(audio_format, chunks) for _ in range(_RUNS))
        print(f"{name:32} {best * 1e9 / len(data):8.3f} ms of CPU a MB")


def _cpu_seconds(audio_format: str, chunks: list[bytes]) -> float:
    reader, began = AudioReader(audio_format), time.process_time()
    for chunk in chunks:
        reader.feed(chunk)
    return time.process_time() - began


if __name__ == "__main__":
    main()
