"""Callvault's verdict on odd audio files, compared with ffprobe's."""
