"""What the audio itself says: read from the bytes while they stream by, at no second pass.

A WAV's chunks and an MP3's frames are walked to the end, which gives channels, rate and duration; of uncompressed
audio each channel is watched for a sample that is not zero. A file is never refused for what is found here: it is
archived, marked in the commit record, and its original is kept until a person says otherwise.

Sources: RIFF/WAVE as in Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" with the later
WAVE_FORMAT_EXTENSIBLE; MPEG-1 layer III frames as in ISO/IEC 11172-3, the lower rates as in 13818-3.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.archive.records import AudioSummary

_TOLERANCE_SHARE = 0.05
_TOLERANCE_MS = 2_000
_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
# The byte or bytes of digital silence: zero, and for the companded formats of G.711 the code of the smallest value.
_SILENCE = {_PCM: b"\0", _FLOAT: b"\0", _ALAW: b"\xd5\x55", _MULAW: b"\xff\x7f"}

# kbit/s of layer III by the index in the header, MPEG-1 and MPEG-2/2.5; sample rates by version.
_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MOST_JUNK_BYTES = 64 * 1024
_INFO_HEAD_BYTES = 64  # of the first frame: its head, the longest side information, and an information header's counts
_MOST_PADDING_FRAMES = 5  # an encoder adds its delay before and fills its last frames after


class _Wav:
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0  # bytes walked over so far
        self._left = 0  # bytes of the data chunk still to come
        self._in_data = False
        self._skip = 0
        self._silent: list[bool] = []
        self._silence = b"\0"
        self._phase = 0
        self.broken = False
        self.data_bytes = 0
        self.announced = 0
        self.channels = self.rate = self.frame_bytes = self.tag = 0
        self._started = False
        self._size = 0
        self._riff_bytes = 0  # of the whole file, as its head says; 0 where it leaves that open
        self._data_bytes_64 = 0  # of the data chunk, as the head of an RF64 file says

    def feed(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self.broken:
            return
        if self._in_data:  # nearly all of a file: looked at as it is, without a copy
            taken = self._take_data(chunk)
            if taken == len(chunk):
                return
            chunk = chunk[taken:]
        self._buffer += chunk
        while self._buffer and not self.broken:
            if self._in_data:
                taken = self._take_data(bytes(self._buffer))
                del self._buffer[:taken]
            elif self._skip:
                taken = min(self._skip, len(self._buffer))
                del self._buffer[:taken]
                self._skip -= taken
            elif not self._take_header():
                return

    def _take_header(self) -> bool:
        buffer = self._buffer
        if not self._started:
            if len(buffer) < 12:
                return False
            self.broken = not buffer.startswith((b"RIFF", b"RF64")) or buffer[8:12] != b"WAVE"
            self._started = True
            announced = int.from_bytes(buffer[4:8], "little")
            self._riff_bytes = announced + 8 if 0 < announced < 0xFFFFFF00 else 0
            del buffer[:12]
            return True
        if len(buffer) < 8:
            return False
        name, size = bytes(buffer[:4]), int.from_bytes(buffer[4:8], "little")
        if name == b"fmt ":
            if size > 4096:
                self.broken = True
                return False
            if len(buffer) < 8 + size:
                return False
            self._read_format(bytes(buffer[8 : 8 + size]))
        elif name == b"ds64" and size >= 16:  # EBU Tech 3306: the sizes of an RF64 file, in 64 bits
            if len(buffer) < 24:
                return False
            self._riff_bytes = int.from_bytes(buffer[8:16], "little") + 8
            self._data_bytes_64 = int.from_bytes(buffer[16:24], "little")
        elif name == b"data":
            del buffer[:8]
            if size == 0xFFFFFFFF and self._data_bytes_64:
                size = self.announced = self._left = self._data_bytes_64
                self._in_data = True
                return True
            self._in_data = True
            # Writers that stream leave the size open: 0 or all ones then means "to the end".
            self._left = size if 0 < size < 0xFFFFFF00 else 1 << 62
            self.announced = size if 0 < size < 0xFFFFFF00 else 0
            return True
        del buffer[:8]
        self._skip = size + size % 2
        return True

    def _read_format(self, body: bytes) -> None:
        if len(body) < 16:
            self.broken = True
            return
        self.tag = int.from_bytes(body[0:2], "little")
        self.channels = int.from_bytes(body[2:4], "little")
        self.rate = int.from_bytes(body[4:8], "little")
        self.frame_bytes = int.from_bytes(body[12:14], "little")
        if self.tag == _EXTENSIBLE and len(body) >= 26:
            self.tag = int.from_bytes(body[24:26], "little")
        self.broken = not (0 < self.channels <= 64 and self.rate > 0 and self.frame_bytes >= self.channels)
        if self.tag in _SILENCE and not self.broken and self.frame_bytes % self.channels == 0:
            self._silent = [True] * self.channels
            is_unsigned = self.tag == _PCM and self.frame_bytes == self.channels  # 8 bits: the middle is silence
            self._silence = b"\x80" if is_unsigned else _SILENCE[self.tag]

    def _take_data(self, data: bytes) -> int:
        """Take what belongs to the data chunk; returns how much that was."""
        taken = min(len(data), self._left)
        self._left -= taken
        self.data_bytes += taken
        if any(self._silent):
            self._look_for_sound(data if taken == len(data) else data[:taken])
        if not self._left:
            self._in_data = False
            self._skip = self.data_bytes % 2
        return taken

    def _look_for_sound(self, data: bytes) -> None:
        """Strip silence from each byte position of a frame; what is left over belongs to a channel that sounds."""
        width = self.frame_bytes // self.channels
        for place in range(self.frame_bytes):
            channel = place // width
            first = (place - self._phase) % self.frame_bytes
            if self._silent[channel] and data[first :: self.frame_bytes].strip(self._silence):
                self._silent[channel] = False
        self._phase = (self._phase + len(data)) % self.frame_bytes

    def is_whole(self, expected_ms: int | None) -> bool:
        """Whether the file has reached the sizes that its head gives, to the byte."""
        has_data = not self.broken and self.announced > 0 and self.data_bytes == self.announced
        return has_data and self._size == self._riff_bytes

    def summary(self) -> tuple[int, int, int, bool, bool]:
        parses = not self.broken and self.channels > 0 and self.data_bytes > 0
        if not parses:
            return 0, 0, 0, False, False
        whole = not self.announced or self.data_bytes == self.announced
        duration_ms = round(self.data_bytes // self.frame_bytes * 1000 / self.rate)
        if self.tag not in _SILENCE and self.tag != _EXTENSIBLE:
            duration_ms = 0  # a compressed WAV (GSM, ADPCM): frames are not samples
        return self.channels, self.rate, duration_ms, any(self._silent), whole


class _Mp3:
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0
        self._junk = 0
        self._started = False
        self.broken = False
        self.frames = self.samples = self.rate = self.channels = 0
        self._size = 0
        self._first_frame_at = 0
        self._info_frames = self._info_bytes = 0  # as a Xing or Info header gives them; 0 without one

    def feed(self, chunk: bytes) -> None:
        if self.broken:
            return
        buffer = self._buffer
        self._size += len(chunk)
        buffer += chunk
        at = 0
        if not self._started:
            if len(buffer) < 10:
                return
            self._started = True
            if buffer[:3] == b"ID3":  # its size is 4 times 7 bits
                self._skip = 10 + sum((buffer[6 + i] & 0x7F) << (21 - 7 * i) for i in range(4))
        while True:
            if self._skip:
                step = min(self._skip, len(buffer) - at)
                at += step
                self._skip -= step
            if self._skip or len(buffer) - at < 4:
                break
            if not self.frames and (frame_bytes := self._frame_bytes(buffer, at)):
                if len(buffer) - at < min(frame_bytes, _INFO_HEAD_BYTES):
                    break
                self._first_frame_at = self._size - (len(buffer) - at)
                self._read_info(bytes(buffer[at : at + min(frame_bytes, _INFO_HEAD_BYTES)]))
            frame_bytes = self._frame(buffer, at)
            if frame_bytes:
                self._skip = frame_bytes
            elif buffer[at : at + 3] == b"TAG":
                self._skip = 128
            else:
                at += 1
                self._junk += 1
                if self._junk > _MOST_JUNK_BYTES:
                    self.broken = True
                    break
        del buffer[:at]

    def _frame(self, buffer: bytearray, at: int) -> int:
        """The length of the frame that begins here, counting it; 0 if none does."""
        frame_bytes = self._frame_bytes(buffer, at)
        if frame_bytes:
            version = buffer[at + 1] >> 3 & 3
            self.frames += 1
            self.samples += 1152 if version == 3 else 576
            self.rate = _RATES[version][buffer[at + 2] >> 2 & 3]
            self.channels = 1 if buffer[at + 3] >> 6 == 3 else 2
        return frame_bytes

    def _frame_bytes(self, buffer: bytearray, at: int) -> int:
        """The length of the frame that begins here; 0 if none does."""
        b1, b2 = buffer[at + 1], buffer[at + 2]
        if buffer[at] != 0xFF or b1 & 0xE0 != 0xE0:
            return 0
        version, layer, kbits_index, rate_index = b1 >> 3 & 3, b1 >> 1 & 3, b2 >> 4, b2 >> 2 & 3
        if version == 1 or layer != 1 or kbits_index in (0, 15) or rate_index == 3:
            return 0
        samples = 1152 if version == 3 else 576
        kbits = (_KBITS_1 if version == 3 else _KBITS_2)[kbits_index]
        return samples * kbits * 125 // _RATES[version][rate_index] + (b2 >> 1 & 1)

    def _read_info(self, frame: bytes) -> None:
        """Read the counts of a Xing or Info header, which encoders put into a first frame without sound."""
        at = max(frame.find(b"Xing"), frame.find(b"Info"))
        if at < 0 or len(frame) < at + 16:
            return
        flags, at = int.from_bytes(frame[at + 4 : at + 8], "big"), at + 8
        if flags & 1:
            self._info_frames, at = int.from_bytes(frame[at : at + 4], "big"), at + 4
        if flags & 2:
            self._info_bytes = int.from_bytes(frame[at : at + 4], "big")

    def is_whole(self, expected_ms: int | None) -> bool:
        """Whether the last frame is complete, and there are as many as an information header or Telnyx says."""
        if self.broken or not self.frames or self._skip or self._buffer:
            return False
        if self._info_bytes:  # 128: the tag of ID3v1 behind it
            return self._size - self._first_frame_at - self._info_bytes in (0, 128)
        if self._info_frames:
            return self.frames - 1 == self._info_frames
        if not expected_ms:
            return False
        frame_ms = self.samples * 1000 / self.frames / self.rate
        duration_ms = self.samples * 1000 / self.rate
        return -1 <= duration_ms - expected_ms <= _MOST_PADDING_FRAMES * frame_ms

    def summary(self) -> tuple[int, int, int, bool, bool]:
        if self.broken or not self.frames:
            return 0, 0, 0, False, False
        return self.channels, self.rate, round(self.samples * 1000 / self.rate), False, self._skip == 0


class AudioReader:
    """Watches one audio file go by: pass it every chunk, then ask for its summary.

    Args:
        audio_format: `wav` or `mp3`, as Telnyx calls the file.
    """

    def __init__(self, audio_format: str) -> None:
        self._format = audio_format
        self._reader: _Wav | _Mp3 = _Wav() if audio_format == "wav" else _Mp3()

    def feed(self, chunk: bytes) -> None:
        """The next bytes. Never raises, whatever the bytes.

        Of a WAV each channel is looked at only until it sounds, which costs next to nothing; of an MP3 every frame's
        head is read, some microseconds for each second of audio.
        """
        self._reader.feed(chunk)

    def is_whole(self, expected_ms: int | None) -> bool:
        """Whether the audio itself shows that its end has been reached, where nobody else says how long it is.

        Of a WAV by the sizes in its head; of an MP3 by its last frame, and its information header or `duration_millis`.
        """
        return self._reader.is_whole(expected_ms)

    def summary(self, expected_ms: int | None) -> AudioSummary:
        """What was found, against the `duration_millis` that Telnyx gives (None if it gives none)."""
        channels, rate, duration_ms, has_silent_channel, is_whole = self._reader.summary()
        findings = []
        if not channels or not is_whole:
            findings.append("unparsable")
        elif expected_ms is not None and duration_ms:
            difference = abs(duration_ms - expected_ms)
            if difference > _TOLERANCE_MS and difference > expected_ms * _TOLERANCE_SHARE:
                findings.append("duration")
        if has_silent_channel:
            findings.append("silent-channel")
        return AudioSummary(self._format, channels, rate, duration_ms, findings)


def merge_summaries(summaries: Sequence[AudioSummary]) -> AudioSummary:
    """One summary of a recording's formats: the first, with what was found in any."""
    first = summaries[0]
    findings = sorted({finding for summary in summaries for finding in summary.findings})
    return AudioSummary(first.format, first.channels, first.sample_rate_hz, first.duration_ms, findings)
