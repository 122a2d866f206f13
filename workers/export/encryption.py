"""Encrypts a bundle for named recipients with age (https://age-encryption.org/v1), so that nobody else can read it.

The recipients are those that `age -r` and `age -R` take: X25519 keys (`age1…`) and SSH keys (`ssh-ed25519 …`, `ssh-rsa …`).
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from text.errors import UsedWrongly
from workers.export.stream import Readable, streamed

Recipient: TypeAlias = Any  # of pyrage, which has no types

MOST_RECIPIENTS = 20
_SSH = ("ssh-ed25519 ", "ssh-rsa ")
_EXPECTED = "expected age1…, ssh-ed25519 … or ssh-rsa …, as `age-keygen -y` and `ssh-keygen` print them"
_SHOWN = 24


def recipients_in(texts: Iterable[str]) -> list[str]:
    """The recipients in options, each a recipient or the path of a file with one a line, as `age -R` reads it.

    Raises:
        UsedWrongly: a file cannot be read.
    """
    found: list[str] = []
    for text in texts:
        if text.startswith(("age1", *_SSH)):
            found.append(text)
            continue
        try:
            found += recipients_of_lines(Path(text).expanduser().read_text())
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "not text"
            raise UsedWrongly(
                f"--recipient: no recipient, and no file: {text}: {why}; {_EXPECTED}, or a file"
            ) from None
    return found


def recipients_of_lines(text: str) -> list[str]:
    """The recipients in a text with one a line; empty lines and comments (`#`) are none."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def read_recipients(texts: Sequence[str]) -> list[Recipient]:
    """Parse recipients.

    Raises:
        UsedWrongly: none is given, one cannot be used, or the package that encrypts is missing.
    """
    try:
        import pyrage
    except ImportError:
        raise UsedWrongly("encryption needs the package pyrage; run `pip install 'callvault[age]'`") from None
    if not texts:
        raise UsedWrongly(f"no recipient was given; {_EXPECTED}")
    if len(texts) > MOST_RECIPIENTS:
        raise UsedWrongly(f"{len(texts)} recipients; the maximum is {MOST_RECIPIENTS}")
    found: list[Recipient] = []
    for text in texts:
        kind = pyrage.ssh.Recipient if text.startswith(_SSH) else pyrage.x25519.Recipient
        try:
            found.append(kind.from_str(text))
        except pyrage.RecipientError:
            if text.upper().startswith("AGE-SECRET-KEY-"):
                raise UsedWrongly("a recipient is a public key, and this is a secret one; never give it away") from None
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
            raise UsedWrongly(f"recipient {shown!r} cannot be used; {_EXPECTED}") from None
    return found


def encrypted(chunks: Generator[bytes], recipients: Sequence[Recipient]) -> Generator[bytes]:
    """The bytes encrypted for some recipients, any of whom can decrypt them.

    What `chunks` raises is raised in place of the rest.
    """
    import pyrage

    source = Readable(chunks)

    def write(file: BinaryIO) -> None:
        try:
            pyrage.encrypt_io(io.BufferedReader(source, 1 << 16), file, recipients)
        except pyrage.EncryptError:
            if source.error is not None:  # pyrage shows its text alone
                raise source.error from None
            raise
        finally:
            chunks.close()

    return streamed(write)
