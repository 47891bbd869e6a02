"""Handles that clients carry for us: sealed, bound to a principal and a purpose, with a time at which they end."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305


MAX_SEALED_CHARS: Final = 4096
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_EXPIRY: Final = struct.Struct(">I")
# What a handle holds beside its version and what was sealed.
OVERHEAD_BYTES: Final = _NONCE_BYTES + _EXPIRY.size + _TAG_BYTES
_TOKEN: Final = re.compile(rf"[A-Za-z0-9_-]{{38,{MAX_SEALED_CHARS}}}")


class Opened(NamedTuple):
    """What was in a handle; `name` tells it from all others without giving it away, `expires_at` is Unix time."""

    name: str
    expires_at: float
    plain: bytes


class Sealer:
    """`purpose` (at most 16 ASCII characters) keeps what is sealed for one thing from passing for another.

    `version` is the first octet of every handle, where there is one: what was sealed in another format does not open.
    """

    def __init__(self, key: bytes, purpose: str, version: bytes = b"") -> None:
        if len(key) != 32:
            raise ValueError(f"expected a key of 32 bytes, got {len(key)}")
        person = purpose.encode("ascii")
        self._key = hashlib.blake2b(key=key, person=person, digest_size=32).digest()
        self._version = version
        self._aead: ChaCha20Poly1305 | None = None

    def seal(self, plain: bytes, principal_id: str, expires_at: float) -> str:
        """Return the token; `expires_at` is Unix time."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher().encrypt(nonce, _EXPIRY.pack(int(expires_at)) + plain, principal_id.encode())
        return base64.urlsafe_b64encode(self._version + nonce + sealed).rstrip(b"=").decode("ascii")

    def open(self, token: str, principal_id: str, now: float) -> bytes | None:
        """Return what was sealed, None for what is altered, respelled, expired or another principal's."""
        opened = self.open_any(token, principal_id)
        return opened.plain if opened is not None and opened.expires_at > now else None

    def open_any(self, token: str, principal_id: str) -> Opened | None:
        """Return what was sealed, whether it has expired or not; None for what is altered, respelled or another's."""
        if not _TOKEN.fullmatch(token):
            return None
        try:
            octets = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            return None
        # Unused bits of the last character may differ and decode alike; one handle has one spelling.
        if base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii") != token:
            return None
        begin = len(self._version)
        nonce, sealed = octets[begin : begin + _NONCE_BYTES], octets[begin + _NONCE_BYTES :]
        if octets[:begin] != self._version or len(nonce) < _NONCE_BYTES:
            return None
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 (see _cipher)

        try:
            plain = self._cipher().decrypt(nonce, sealed, principal_id.encode())
        except InvalidTag:
            return None
        (expires_at,) = _EXPIRY.unpack_from(plain)
        return Opened(nonce.hex(), float(expires_at), plain[_EXPIRY.size :])

    def _cipher(self) -> ChaCha20Poly1305:
        """Return the cipher, loaded by the first use: it takes milliseconds and megabytes that most never need."""
        if self._aead is None:
            from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

            self._aead = ChaCha20Poly1305(self._key)
        return self._aead
