"""A hundred odd files, as recorders, pipes, editors, cut transfers and bad disks leave them."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tests.audio import build
from tests.audio.build import chunk, form, frames, id3v1, id3v2, info, pcm, riff, still_frame, wav


@dataclass(frozen=True)
class Odd:
    """An odd file.

    Attributes:
        name: its description, also in the table.
        audio_format: as Telnyx calls it.
        make: its bytes.
        telnyx_ms: its length by Telnyx.
        telnyx_channels: its channels by Telnyx.
        why: why Callvault's verdict differs from ffprobe's, if it does.
    """

    name: str
    audio_format: str
    make: Callable[[], bytes]
    telnyx_ms: int | None = 5000
    telnyx_channels: str = "single"
    why: str = ""


_CUT = "ffprobe takes what is there"
_OPEN_SIZES = (
    0,
    0xFFFFFFFF,
    0xFFFFFFFE,
    0xFFFFFFDB,
    0x7FFFF000,
    0x7FFFEFFC,
    0x7FFFFFFF,
    0x7FFFFFDB,
    0x80000000,
    0x80000023,
)


def all_odd() -> list[Odd]:
    """Return all odd files."""
    return [
        *_open_wavs(),
        *_wavs(),
        *_twins(),
        *_codecs(),
        *_described(),
        *_mp3_tags(),
        *_mp3_counts(),
        *_mp3_frames(),
        *_no_audio(),
    ]


def _cut(data: bytes, share: float = 0.7) -> bytes:
    return data[: int(len(data) * share) // 2 * 2]


def _open_wavs() -> Iterator[Odd]:
    for size in _OPEN_SIZES:
        yield Odd(
            f"WAV, data size {size:#x}",
            "wav",
            partial(wav, pcm(5), data_size=size, size=size and min(size + 36, 0xFFFFFFFF)),
        )
    yield Odd("WAV, only the RIFF size left open", "wav", lambda: wav(pcm(5), size=0))
    yield Odd("WAV, only the data size left open", "wav", lambda: wav(pcm(5), data_size=0xFFFFFFFF, size=80_036))
    yield Odd(
        "WAV, open size, 2 channels of mu-law",
        "wav",
        lambda: wav(pcm(5, 2, 1), form(7, 2, 8), data_size=0xFFFFFFFF, size=0xFFFFFFFF),
        5000,
        "dual",
    )
    yield Odd("WAV, open size, 3 s short of what Telnyx says", "wav", lambda: wav(pcm(5), data_size=0xFFFFFFFF), 8000)
    yield Odd("WAV, open size, ends within a sample", "wav", lambda: wav(pcm(5)[:-1], data_size=0x7FFFF000))


def _wavs() -> Iterator[Odd]:
    listed = chunk(b"LIST", b"INFOISFT\x08\0\0\0callvlt\0")
    yield Odd("WAV, sound", "wav", lambda: wav(pcm(5)))
    yield Odd("WAV, cut by 30 %", "wav", lambda: _cut(wav(pcm(5))), why=_CUT)
    yield Odd("WAV, one byte short", "wav", lambda: wav(pcm(5))[:-1], why=_CUT)
    yield Odd("WAV, one sample short", "wav", lambda: wav(pcm(5))[:-2], why=_CUT)
    yield Odd("WAV, head alone", "wav", lambda: wav(pcm(5))[:44])
    yield Odd("WAV, head alone, of no data", "wav", lambda: wav(b""))
    yield Odd("WAV, cut within its head", "wav", lambda: wav(pcm(5))[:30])
    yield Odd("WAV, data of an odd size, not padded", "wav", lambda: wav(pcm(5, 1, 1)[:-1], form(7, 1, 8))[:-1])
    yield Odd("WAV, LIST before the data", "wav", lambda: wav(pcm(5), before=listed))
    yield Odd("WAV, LIST behind the data", "wav", lambda: wav(pcm(5), behind=listed))
    yield Odd("WAV, LIST behind the data, cut", "wav", lambda: wav(pcm(5), behind=listed)[:-6])
    yield Odd(
        "WAV, JUNK and bext before the data",
        "wav",
        lambda: wav(pcm(5), before=chunk(b"JUNK", bytes(28)) + chunk(b"bext", bytes(602))),
    )
    yield Odd(
        "WAV, 200 KB of LIST before the data",
        "wav",
        lambda: wav(pcm(5), before=chunk(b"LIST", b"INFO" + bytes(200_000))),
    )
    yield Odd("WAV, 1000 bytes of junk behind the data", "wav", lambda: wav(pcm(5)) + build.noise(1000))
    yield Odd("WAV, head never brought up to date: 1 s of 5", "wav", lambda: wav(pcm(5), data_size=16_000))
    yield Odd("WAV, data size that counts the head", "wav", lambda: wav(pcm(5), data_size=80_036, size=80_036))
    yield Odd("WAV, the same, one byte short", "wav", lambda: wav(pcm(5), data_size=80_036, size=80_036)[:-1], why=_CUT)
    yield Odd(
        "WAV, two data chunks",
        "wav",
        lambda: wav(pcm(2), behind=chunk(b"data", pcm(3))),
        why="players play both, ffprobe reckons with the last",
    )
    yield Odd("WAV, data before the format", "wav", lambda: riff(chunk(b"data", pcm(5)), chunk(b"fmt ", form())))
    yield Odd("WAV, no format", "wav", lambda: riff(chunk(b"data", pcm(5))))
    yield Odd("WAV, no channels", "wav", lambda: wav(pcm(5), form(channels=0, block=2)))
    yield Odd("WAV, sample rate of zero", "wav", lambda: wav(pcm(5), form(rate=0)))
    yield Odd("WAV, block size of zero", "wav", lambda: wav(pcm(5), form(block=0, per_second=16_000)))
    yield Odd(
        "WAV, block size of one channel for two",
        "wav",
        lambda: wav(pcm(5, 2), form(channels=2, block=2, per_second=32_000)),
        5000,
        "dual",
    )
    yield Odd("WAV, wrong bytes a second", "wav", lambda: wav(pcm(5), form(per_second=8000)))
    yield Odd("WAV, format chunk of 18 bytes", "wav", lambda: wav(pcm(5), form(more=b"\0\0")))
    yield Odd("WAV, two files joined", "wav", lambda: wav(pcm(5)) * 2)


def _twins() -> Iterator[Odd]:
    data = pcm(5)
    yield Odd("RIFX", "wav", lambda: build.rifx(data))
    yield Odd("RIFX, cut by 30 %", "wav", lambda: _cut(build.rifx(data)), why=_CUT)
    yield Odd("RIFX, open sizes", "wav", lambda: build.rifx(data, 0xFFFFFFFF, 0xFFFFFFFF))
    for name in (b"RF64", b"BW64"):
        text = name.decode()
        yield Odd(text, "wav", partial(build.rf64, data, name))
        yield Odd(f"{text}, cut by 30 %", "wav", partial(_cut, build.rf64(data, name)), why=_CUT)
        yield Odd(f"{text}, open sizes", "wav", partial(build.rf64, data, name, is_open=True))
    pipe = "ffprobe does not read what ffmpeg and sox write to a pipe"
    yield Odd("Wave64", "wav", lambda: build.wave64(data))
    yield Odd("Wave64, cut by 30 %", "wav", lambda: _cut(build.wave64(data)), why=_CUT)
    yield Odd(
        "Wave64, open sizes of ones", "wav", lambda: build.wave64(data, size=2**64 - 1, data_size=2**64 - 1), why=pipe
    )
    yield Odd("Wave64, open sizes of zeros", "wav", lambda: build.wave64(data, size=0, data_size=0), why=pipe)


def _codecs() -> Iterator[Odd]:
    for tag, bits, name in (
        (1, 8, "PCM of 8 bits"),
        (1, 24, "PCM of 24 bits"),
        (1, 32, "PCM of 32 bits"),
        (3, 32, "floats of 32 bits"),
        (3, 64, "floats of 64 bits"),
        (6, 8, "A-law"),
        (7, 8, "mu-law"),
    ):
        yield Odd(
            f"WAV, {name}, 2 channels", "wav", partial(wav, pcm(5, 2, bits // 8), form(tag, 2, bits)), 5000, "dual"
        )
    yield Odd("WAV, extensible PCM of 24 bits", "wav", lambda: wav(pcm(5, 2, 3), build.extensible(1, 24)), 5000, "dual")
    yield Odd("WAV, extensible mu-law", "wav", lambda: wav(pcm(5, 2, 1), build.extensible(7, 8)), 5000, "dual")
    gsm = form(0x31, 1, 0, block=65, per_second=1625, more=struct.pack("<HH", 2, 320))
    yield Odd(
        "WAV49 (GSM), as Asterisk writes it",
        "wav",
        lambda: wav(build.noise(65 * 125), gsm, before=chunk(b"fact", struct.pack("<I", 40_000))),
    )
    yield Odd("WAV49 (GSM), open sizes", "wav", lambda: wav(build.noise(65 * 125), gsm, data_size=0, size=0))
    yield Odd("WAV49 (GSM), cut by 30 %", "wav", lambda: wav(build.noise(65 * 125), gsm)[: 60 + 65 * 87], why=_CUT)
    ima = form(0x11, 1, 4, block=256, per_second=4055, more=struct.pack("<HH", 2, 505))
    full = chunk(b"fact", struct.pack("<I", 40_000))
    yield Odd("WAV, IMA ADPCM", "wav", lambda: wav(build.noise(256 * 80), ima, before=full))
    yield Odd(
        "WAV, IMA ADPCM, 2 channels, no fact",
        "wav",
        lambda: wav(
            build.noise(512 * 79), form(0x11, 2, 4, block=512, per_second=8110, more=struct.pack("<HH", 2, 505))
        ),
        5000,
        "dual",
    )
    ms = form(2, 1, 4, block=256, per_second=4096, more=struct.pack("<HHH", 32, 500, 7) + bytes(28))
    yield Odd("WAV, MS ADPCM", "wav", lambda: wav(build.noise(256 * 80), ms, before=full))
    yield Odd(
        "WAV, G.726 of 32 kbit/s", "wav", lambda: wav(build.noise(20_000), form(0x45, 1, 4, block=1, per_second=4000))
    )
    yield Odd(
        "WAV, G.722, its bytes a second wrong",
        "wav",
        lambda: wav(build.noise(40_000), form(0x28F, 1, 4, rate=16_000, block=1, per_second=16_000)),
    )
    yield Odd("WAV, OKI ADPCM", "wav", lambda: wav(build.noise(20_000), form(0x10, 1, 4, block=1, per_second=4000)))
    yield Odd(
        "WAV, Dialogic ADPCM", "wav", lambda: wav(build.noise(20_000), form(0x17, 1, 4, block=1, per_second=4000))
    )
    yield Odd("WAV, G.729", "wav", lambda: wav(build.noise(5000), form(0x133, 1, 0, block=10, per_second=1000)))
    yield Odd(
        "WAV, an unknown codec that gives its bytes a second",
        "wav",
        lambda: wav(build.noise(20_000), form(0x7777, 1, 0, block=1, per_second=4000)),
    )
    yield Odd(
        "WAV, an unknown codec with a fact chunk",
        "wav",
        lambda: wav(build.noise(20_000), form(0x7777, 1, 0, block=1, per_second=0), before=full),
        why="ffprobe does not believe the fact chunk here",
    )
    yield Odd(
        "WAV, an unknown codec that tells nothing",
        "wav",
        lambda: wav(build.noise(20_000), form(0x7777, 1, 0, block=1, per_second=0)),
    )
    mp3 = form(0x55, 1, 0, block=1, per_second=2000, more=struct.pack("<HHIHHH", 12, 1, 2, 144, 1, 1393))
    yield Odd("WAV with MP3 in it", "wav", lambda: wav(frames(5), mp3))
    yield Odd("WAV with MP3 in it, cut by 30 %", "wav", lambda: _cut(wav(frames(5), mp3)), why=_CUT)


def _described() -> Iterator[Odd]:
    law, gsm = form(7, 1, 8), form(0x31, 1, 0, block=65, per_second=1625, more=struct.pack("<HH", 2, 320))
    yield Odd("WAV, 2 s short", "wav", lambda: wav(pcm(3)))
    yield Odd("WAV, 2.001 s short", "wav", lambda: wav(pcm(2.999)))
    yield Odd("WAV, an hour, 18 s short", "wav", lambda: wav(build.noise(65 * 25 * 3582), gsm), 3_600_000)
    yield Odd("WAV, an hour, 3 minutes short", "wav", lambda: wav(build.noise(65 * 25 * 3420), gsm), 3_600_000)
    yield Odd("WAV, dual, one channel came", "wav", lambda: wav(pcm(5, 1, 1), law), 5000, "dual")
    yield Odd("MP3, dual, one channel came", "mp3", lambda: frames(5), 5000, "dual")
    yield Odd("WAV, single, two channels came", "wav", lambda: wav(pcm(5, 2), form(channels=2)))
    half = b"".join(bytes((value, 0x80)) for value in pcm(5, 1, 1))
    yield Odd("WAV, dual, one channel is digital silence", "wav", lambda: wav(half, form(1, 2, 8)), 5000, "dual")
    yield Odd("WAV, digital silence", "wav", lambda: wav(bytes(80_000)))


def _mp3_tags() -> Iterator[Odd]:
    sound = frames(5)
    yield Odd("MP3, bare frames", "mp3", lambda: sound)
    yield Odd("MP3, ID3v2", "mp3", lambda: id3v2(500) + sound)
    yield Odd("MP3, two ID3v2", "mp3", lambda: id3v2(500) + id3v2(2000) + sound)
    yield Odd("MP3, ID3v2 with a foot", "mp3", lambda: id3v2(500, has_foot=True) + sound)
    yield Odd("MP3, ID3v2 at the end", "mp3", lambda: sound + id3v2(500))
    yield Odd("MP3, ID3v2 of 300 KB", "mp3", lambda: id3v2(300_000) + sound)
    yield Odd(
        "MP3, ID3v2 longer than the file",
        "mp3",
        lambda: id3v2(500)[:6] + b"\x7f\x7f\x7f\x7f" + sound,
        why="what the tag says is passed over to the end",
    )
    yield Odd("MP3, 500 bytes of padding more than its ID3v2 says", "mp3", lambda: id3v2(500) + bytes(500) + sound)
    yield Odd("MP3, ID3v1", "mp3", lambda: sound + id3v1())
    yield Odd("MP3, ID3v1, cut", "mp3", lambda: sound + id3v1()[:100])
    yield Odd("MP3, APE", "mp3", lambda: sound + build.ape())
    yield Odd("MP3, APE with a foot only", "mp3", lambda: sound + build.ape(has_head=False))
    yield Odd("MP3, APE and ID3v1", "mp3", lambda: sound + build.ape() + id3v1())
    yield Odd("MP3, ID3v2, APE and ID3v1", "mp3", lambda: id3v2(500) + sound + build.ape() + id3v1())
    yield Odd(
        "MP3, ID3v1 and ID3v2 in the middle, as of two files joined",
        "mp3",
        lambda: frames(2) + id3v1() + id3v2(500) + frames(3),
    )


def _mp3_counts() -> Iterator[Odd]:
    sound = frames(20)
    count, size = len(sound) // 144, len(sound) + 360
    lacking = "ffprobe believes the header of a file that was cut"
    yield Odd("MP3, Info header", "mp3", lambda: info(count, size) + sound, 20_000)
    yield Odd("MP3, Xing header", "mp3", lambda: info(count, size, name=b"Xing") + sound, 20_000)
    yield Odd("MP3, Info header, frames only", "mp3", lambda: info(count, None) + sound, 20_000)
    yield Odd("MP3, Info header, bytes only", "mp3", lambda: info(None, size) + sound, 20_000)
    yield Odd(
        "MP3, LAME header with delay and padding", "mp3", lambda: info(count, size, added=(576, 1000)) + sound, 20_000
    )
    yield Odd("MP3, VBRI header", "mp3", lambda: build.vbri(count, size) + sound, 20_000)
    yield Odd("MP3, Info header and ID3v1", "mp3", lambda: info(count, size) + sound + id3v1(), 20_000)
    yield Odd(
        "MP3, Info header that counts its ID3v1", "mp3", lambda: info(count, size + 128) + sound + id3v1(), 20_000
    )
    yield Odd("MP3, Info header that counts its own frame", "mp3", lambda: info(count + 1, size) + sound, 20_000)
    for name, header in (("Info", info(count, size)), ("VBRI", build.vbri(count, size))):
        yield Odd(f"MP3, {name} header, cut by 30 %", "mp3", partial(_cut, header + sound), 20_000, why=lacking)
        yield Odd(
            f"MP3, {name} header, one frame short", "mp3", partial(bytes, (header + sound)[:-144]), 20_000, why=lacking
        )
    yield Odd(
        "MP3, Info header, frames only, one frame short",
        "mp3",
        lambda: (info(count, None) + sound)[:-144],
        20_000,
        why=lacking,
    )
    yield Odd(
        "MP3, Info header, the last frame cut", "mp3", lambda: (info(count, size) + sound)[:-50], 20_000, why=lacking
    )
    yield Odd(
        "MP3, Info header, ten frames lost in the middle",
        "mp3",
        lambda: info(count, size) + sound[:14_400] + sound[15_840:],
        20_000,
        why=lacking,
    )
    yield Odd("MP3, Info header alone", "mp3", lambda: info(count, size), 20_000, why=lacking)
    yield Odd("MP3, two files with Info headers joined", "mp3", lambda: (info(count, size) + sound) * 2, 40_000, why="")


def _mp3_frames() -> Iterator[Odd]:
    sound = frames(20)
    cut_end = "its last frame lacks bytes and a second is missing: it was cut"
    hole = "a hole: something was lost inside"
    yield Odd("MP3, the last frame cut, nothing else missing", "mp3", lambda: sound[:-50], 20_000)
    yield Odd("MP3, cut within a frame, a second short", "mp3", lambda: sound[: 144 * 263 + 50], 20_000, why=cut_end)
    yield Odd("MP3, cut between frames, a second short", "mp3", lambda: sound[: 144 * 264], 20_000)
    yield Odd("MP3, cut by 30 %", "mp3", lambda: _cut(sound), 20_000, why=cut_end)
    yield Odd("MP3, 3 bytes of junk between frames", "mp3", lambda: sound[:14_400] + b"abc" + sound[14_400:], 20_000)
    yield Odd(
        "MP3, 200 bytes of junk between frames",
        "mp3",
        lambda: sound[:14_400] + build.noise(200) + sound[14_400:],
        20_000,
    )
    yield Odd(
        "MP3, a byte too many behind each of 100 frames",
        "mp3",
        lambda: b"".join(sound[i * 144 : i * 144 + 144] + b"\0" * (i < 100) for i in range(len(sound) // 144)),
        20_000,
        why="most players lose their way in it; ffprobe finds 13 s of 20",
    )
    yield Odd(
        "MP3, a page of 4 KiB of zeros in place of frames",
        "mp3",
        lambda: sound[:14_336] + bytes(4096) + sound[18_432:],
        20_000,
        why=hole,
    )
    yield Odd(
        "MP3, a sector of 512 bytes of zeros in place of frames",
        "mp3",
        lambda: sound[:14_336] + bytes(512) + sound[14_848:],
        20_000,
        why=hole,
    )
    yield Odd("MP3, a bit of a frame's head flipped", "mp3", lambda: sound[:14_400] + b"\xfe" + sound[14_401:], 20_000)
    yield Odd("MP3, 500 bytes of zeros at the beginning", "mp3", lambda: bytes(500) + sound, 20_000)
    yield Odd(
        "MP3, 8 KB of zeros at the beginning",
        "mp3",
        lambda: bytes(8192) + sound,
        20_000,
        why="more than the padding of a tag: sound was there",
    )
    yield Odd(
        "MP3, 1000 bytes of zeros at the end",
        "mp3",
        lambda: sound + bytes(1000),
        20_000,
        why="ffprobe reckons from the size",
    )
    yield Odd(
        "MP3, 8 KB of zeros at the end",
        "mp3",
        lambda: sound + bytes(8192),
        20_000,
        why="more than the padding of a tag: sound was missing",
    )
    yield Odd("MP3, one frame", "mp3", lambda: sound[:144], 72, why="ffprobe wants a second frame")
    yield Odd("MP3, 2 channels", "mp3", lambda: frames(20, 2), 20_000, "dual")
    stuffed = [
        sound[i : i + 2] + b"\x38" + sound[i + 3 : i + 144] + bytes(72) if i // 144 % 3 else sound[i : i + 144]
        for i in range(0, len(sound), 144)
    ]
    yield Odd("MP3, variable bit rate without a header", "mp3", lambda: b"".join(stuffed), 20_000)
    yield Odd(
        "MP3, 44.1 kHz, 128 kbit/s, padding",
        "mp3",
        lambda: b"".join(still_frame(0xFB, 0x90 | 2 * (i % 3 > 0), 0, 417 + (i % 3 > 0)) for i in range(191)),
        4990,
        "dual",
    )
    yield Odd(
        "MP3, with checksums",
        "mp3",
        lambda: b"".join(still_frame(0xFA, 0x94, 0, 384) for _ in range(200)),
        4800,
        "dual",
    )
    yield Odd(
        "MP3, 24 kHz (MPEG-2)", "mp3", lambda: b"".join(still_frame(0xF3, 0x84, 0xC0, 192) for _ in range(200)), 4800
    )
    yield Odd("MP3, layer II", "mp3", lambda: b"".join(still_frame(0xFD, 0x84, 0xC0, 384) for _ in range(200)), 4800)
    yield Odd(
        "MP3, a free bit rate",
        "mp3",
        lambda: b"".join(still_frame(0xE3, 0x08 | 2 * (i % 2), 0xC0, 200 + i % 2) for i in range(70)),
        5000,
        why="ffprobe reads no free bit rate",
    )
    yield Odd(
        "MP3, 8 kHz, then 24 kHz",
        "mp3",
        lambda: frames(5) + b"".join(still_frame(0xF3, 0x84, 0xC0, 192) for _ in range(200)),
        9800,
        why="ffprobe reckons from the first frame",
    )


def _no_audio() -> Iterator[Odd]:
    rng = random.Random(2)
    bodies = {
        "nothing": b"",
        "text": b"Access denied. Request has expired.\n",
        "an HTML page": b"<!DOCTYPE html><html><body>" + b"<p>Not found</p>" * 400,
        "an error in XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        "an error in JSON": b'{"errors": [{"code": "10005", "title": "Resource not found"}]}',
        "64 KB of zeros": bytes(65_536),
        "64 KB at random": rng.randbytes(65_536),
        "2 KB at random": rng.randbytes(2_048),
        "gzip": gzip.compress(build.noise(3000), mtime=0),
        "a JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF\0\1" + rng.randbytes(5000),
        "the first page of an Ogg": b"OggS\0\2" + bytes(20) + b"\1\x1e\1vorbis" + rng.randbytes(500),
    }
    for name, body in bodies.items():
        for audio_format in ("wav", "mp3"):
            why = "ffprobe takes it for AMR" if name == "an HTML page" else ""
            yield Odd(f"{name}, called {audio_format.upper()}", audio_format, partial(bytes, body), why=why)
    head = b"Dear \xff\xe3\x28\xc4 customer, " + b"this recording is not to be had. " * 40
    yield Odd("a text with the head of a frame in it, called MP3", "mp3", lambda: head, 1000)
    other = "it is no file of the kind that Telnyx says"
    yield Odd("an MP3, called WAV", "wav", lambda: frames(5), why=other)
    yield Odd("a WAV, called MP3", "mp3", lambda: wav(pcm(5)), why=other)
