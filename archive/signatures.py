"""Signatures of seals that `ssh-keygen -Y verify -n callvault-seal` accepts: SSHSIG, Ed25519.

Source of the format: OpenSSH, PROTOCOL.sshsig. A signature is over `SSHSIG`, the namespace, an empty field, the name of
the hash, and the hash of the message. The file contains the public key, which identifies the signer.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

NAMESPACE = b"callvault-seal"

_MAGIC = b"SSHSIG"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


class BadSignature(Exception):
    """An invalid signature; the text has the reason."""


class BadKey(ValueError):
    """An unusable key; the text has the reason, without the key."""


class SealKeys:
    """The key that signs, and the keys whose signatures are trusted.

    Args:
        text: the value of `CALLVAULT_SEAL_KEY`: paths of OpenSSH key files or the text of one. The first must be a
            private Ed25519 key without a passphrase, and signs; public keys after it signed earlier seals.

    Raises:
        BadKey: a key is unusable.
    """

    def __init__(self, text: str) -> None:
        texts = [text] if text.lstrip().startswith("-----BEGIN") else text.split(",")
        first, *others = (_read(part.strip()) for part in texts)
        try:
            key = load_ssh_private_key(first, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # not a key, one with a passphrase, one of another kind
            raise BadKey("not an OpenSSH private key without a passphrase") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise BadKey("not an Ed25519 key; make one with `ssh-keygen -t ed25519 -N ''`")
        self._key = key
        self.public = _raw(key.public_key())
        self.trusted = {self.public, *(_public(other) for other in others)}

    def sign(self, message: bytes) -> bytes:
        """The signature file of a message; the same each time."""
        signature = self._key.sign(_signed(message))
        blob = _MAGIC + struct.pack(">I", 1) + _string(_string(b"ssh-ed25519") + _string(self.public))
        blob += _string(NAMESPACE) + _string(b"") + _string(b"sha512")
        blob += _string(_string(b"ssh-ed25519") + _string(signature))
        text = base64.b64encode(blob).decode()
        lines = [text[i : i + 70] for i in range(0, len(text), 70)]
        return "\n".join([_BEGIN, *lines, _END, ""]).encode()


def signer_of(signature_file: bytes, message: bytes) -> bytes:
    """Verify a signature file of a message; returns the raw public key that it contains.

    Raises:
        BadSignature: it is not a signature, has another namespace, or is not of this message.
    """
    try:
        text = signature_file.decode("ascii").strip()
        if not (text.startswith(_BEGIN) and text.endswith(_END)):
            raise ValueError("not an SSH signature")
        blob = base64.b64decode("".join(text.removeprefix(_BEGIN).removesuffix(_END).split()), validate=True)
        if not blob.startswith(_MAGIC + struct.pack(">I", 1)):
            raise ValueError("not an SSH signature of version 1")
        key, namespace, _, hashed_by, signature = _strings(blob[len(_MAGIC) + 4 :])
        kind, public = _strings(key)
        signed_as, raw = _strings(signature)
        if (kind, signed_as, namespace, hashed_by) != (b"ssh-ed25519", b"ssh-ed25519", NAMESPACE, b"sha512"):
            raise ValueError("of another kind of key, namespace or hash")
        Ed25519PublicKey.from_public_bytes(public).verify(raw, _signed(message))
    except InvalidSignature:
        raise BadSignature("the signature is of other bytes") from None
    except (ValueError, struct.error, IndexError) as error:
        raise BadSignature(f"unreadable: {error}") from None
    return public


def fingerprint(public: bytes) -> str:
    """A public key as `ssh-keygen -l` names it."""
    digest = hashlib.sha256(_string(b"ssh-ed25519") + _string(public)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _read(part: str) -> bytes:
    if part.startswith(("-----BEGIN", "ssh-ed25519 ")):
        return part.encode() + b"\n"
    try:
        return Path(part).expanduser().read_bytes()
    except OSError as error:
        raise BadKey(f"cannot read the file ({error.strerror})") from None


def _public(data: bytes) -> bytes:
    try:
        key = load_ssh_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("a key after the first is not an OpenSSH public key") from None
    if not isinstance(key, Ed25519PublicKey):
        raise BadKey("a key after the first is not Ed25519")
    return _raw(key)


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _signed(message: bytes) -> bytes:
    digest = hashlib.sha512(message).digest()
    return _MAGIC + _string(NAMESPACE) + _string(b"") + _string(b"sha512") + _string(digest)


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _strings(data: bytes) -> list[bytes]:
    found = []
    while data:
        (length,) = struct.unpack(">I", data[:4])
        if len(data) < 4 + length:
            raise ValueError("cut short")
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found
