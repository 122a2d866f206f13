"""Files that ffmpeg, sox and lame write, into files and pipes, as recorders do.

Made where the tools are installed; `make test` installs them where it may.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

from lab.forked_program import forked_program
from lab.processes import Missing, program
from tests.audio.build import form, noise, wav
from tests.audio.odd_files import Odd

_FFMPEG, _LAME, _SOX = "ffmpeg -v error -fflags +bitexact -i in.wav -flags +bitexact", "lame --quiet", "sox -D in.wav"
_PIPE = "ffprobe does not read what ffmpeg and sox write to a pipe"

# By name: the command, which writes to standard output if it ends in "-", else to the file `out`; channels.
_COMMANDS: Mapping[str, tuple[str, str]] = {
    "ffmpeg, WAV": (f"{_FFMPEG} -y out.wav", "dual"),
    "ffmpeg, WAV to a pipe": (f"{_FFMPEG} -f wav -", "dual"),
    "ffmpeg, RF64": (f"{_FFMPEG} -rf64 always -y out.wav", "dual"),
    "ffmpeg, RF64 to a pipe": (f"{_FFMPEG} -rf64 always -f wav -", "dual"),
    "ffmpeg, Wave64": (f"{_FFMPEG} -f w64 -y out.wav", "dual"),
    "ffmpeg, Wave64 to a pipe": (f"{_FFMPEG} -f w64 -", "dual"),
    "ffmpeg, WAV of mu-law to a pipe": (f"{_FFMPEG} -c:a pcm_mulaw -f wav -", "dual"),
    "ffmpeg, WAV of MS ADPCM": (f"{_FFMPEG} -c:a adpcm_ms -y out.wav", "dual"),
    "ffmpeg, WAV of IMA ADPCM to a pipe": (f"{_FFMPEG} -c:a adpcm_ima_wav -f wav -", "dual"),
    "ffmpeg, WAV of G.722": (f"{_FFMPEG} -c:a adpcm_g722 -ac 1 -ar 16000 -y out.wav", "single"),
    "ffmpeg, WAV of G.726": (f"{_FFMPEG} -c:a g726 -ac 1 -y out.wav", "single"),
    "ffmpeg, WAV of MP3": (f"{_FFMPEG} -c:a libmp3lame -y out.wav", "dual"),
    "ffmpeg, MP3": (f"{_FFMPEG} -f mp3 -y out.mp3", "dual"),
    "ffmpeg, MP3 to a pipe": (f"{_FFMPEG} -f mp3 -", "dual"),
    "ffmpeg, MP3 of a variable bit rate": (f"{_FFMPEG} -q:a 5 -f mp3 -y out.mp3", "dual"),
    "ffmpeg, MP3 with ID3v1": (f"{_FFMPEG} -write_id3v1 1 -f mp3 -y out.mp3", "dual"),
    "sox, WAV": (f"{_SOX} out.wav", "dual"),
    "sox, WAV to a pipe from a pipe": ("sox -D -t raw -r 8000 -c 2 -e signed -b 16 /dev/stdin -t wav -", "dual"),
    "sox, RIFX": (f"{_SOX} -B out.wav", "dual"),
    "sox, Wave64": (f"{_SOX} -t w64 out.wav", "dual"),
    "sox, Wave64 to a pipe": (f"{_SOX} -t w64 -", "dual"),
    "sox, WAV of A-law": (f"{_SOX} -e a-law out.wav", "dual"),
    "sox, WAV of GSM": (f"{_SOX} -e gsm-full-rate -c 1 out.wav", "single"),
    "sox, WAV of GSM to a pipe": (f"{_SOX} -e gsm-full-rate -c 1 -t wav -", "single"),
    "sox, WAV of IMA ADPCM": (f"{_SOX} -e ima-adpcm out.wav", "dual"),
    "sox, WAV of MS ADPCM": (f"{_SOX} -e ms-adpcm out.wav", "dual"),
    "lame, MP3": (f"{_LAME} in.wav out.mp3", "dual"),
    "lame, MP3 to a pipe": (f"{_LAME} in.wav -", "dual"),
    "lame, MP3 of one channel": (f"{_LAME} -m m in.wav out.mp3", "single"),
    "lame, MP3 with ID3v1": (f"{_LAME} --id3v1-only --tt title in.wav out.mp3", "dual"),
    "lame, MP3 with ID3v2": (f"{_LAME} --id3v2-only --tt title in.wav out.mp3", "dual"),
    "lame, MP3 of a variable bit rate": (f"{_LAME} -V 6 in.wav out.mp3", "dual"),
    "lame, MP3 of an average bit rate, with checksums": (f"{_LAME} --abr 40 -p in.wav out.mp3", "dual"),
    "lame, MP3 without a header": (f"{_LAME} -t in.wav out.mp3", "dual"),
    "lame, MP3 of a free bit rate": (f"{_LAME} --freeformat -b 100 in.wav out.mp3", "dual"),
    "lame, MP3 of 44.1 kHz": (f"{_LAME} --resample 44.1 in.wav out.mp3", "dual"),
    "lame, WAV from MP3 to a pipe": (f"{_LAME} --decode in.mp3 -", "dual"),
}
_WHYS = {
    "ffmpeg, Wave64 to a pipe": _PIPE,
    "sox, Wave64 to a pipe": _PIPE,
    "ffmpeg, WAV of IMA ADPCM to a pipe": "ffprobe takes a block for half of what it holds",
    "lame, MP3 of a free bit rate": "ffprobe reads no free bit rate",
}


_TOOLS = {"ffmpeg": "ffmpeg", "ffprobe": "ffmpeg", "sox": "sox", "lame": "lame"}  # with their packages


def are_there() -> bool:
    """Whether this machine has all tools."""
    return all(map(shutil.which, _TOOLS))


def install() -> None:
    """Install what is missing, where this process may; the tests that need it are skipped elsewhere."""
    for name, package in _TOOLS.items():
        with suppress(Missing):
            program(name, package)


def all_made() -> list[Odd]:
    """Make all files; needs every tool."""
    return [
        Odd(name, "mp3" if ", MP3" in name else "wav", partial(_made, name), 5000, channels, _WHYS.get(name, ""))
        for name, (_, channels) in _COMMANDS.items()
    ]


@cache
def _made(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return _make(name, Path(folder))


def _make(name: str, folder: Path) -> bytes:
    command = _COMMANDS[name][0].split()
    (folder / "in.wav").write_bytes(wav(noise(160_000), form(channels=2)))
    if "in.mp3" in command:
        subprocess.run([*_LAME.split(), "in.wav", "in.mp3"], cwd=folder, check=True, timeout=60)
    if command[0] == "ffmpeg":
        status, output = forked_program("ffmpeg").run(*command[1:], folder=folder)
        assert status == 0, name
    else:
        given = noise(160_000)
        done = subprocess.run(command, cwd=folder, check=True, timeout=60, input=given, capture_output=True)
        output = done.stdout
    out = next(folder.glob("out.*"), None)
    return output if out is None else out.read_bytes()


if __name__ == "__main__":
    install()
