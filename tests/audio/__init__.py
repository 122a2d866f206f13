"""What Callvault says of odd audio files, held against ffprobe."""
