"""Handles that clients carry for us: sealed, bound to a principal and a purpose, with a time at which they end.

The part of `frontend/session.py` that is not about sessions: `SessionSealer` keeps its format and its caches.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305


MAX_SEALED_CHARS: Final = 4096
_NONCE_BYTES: Final = 12
_EXPIRY: Final = struct.Struct(">I")
_TOKEN: Final = re.compile(rf"[A-Za-z0-9_-]{{38,{MAX_SEALED_CHARS}}}")


class Sealer:
    """`purpose` (at most 16 ASCII characters) keeps what is sealed for one thing from passing for another."""

    def __init__(self, key: bytes, purpose: str) -> None:
        if len(key) != 32:
            raise ValueError(f"expected a key of 32 bytes, got {len(key)}")
        person = purpose.encode("ascii")
        self._key = hashlib.blake2b(key=key, person=person, digest_size=32).digest()
        self._aead: ChaCha20Poly1305 | None = None

    def seal(self, plain: bytes, principal_id: str, expires_at: float) -> str:
        """Return the token; `expires_at` is Unix time."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher().encrypt(nonce, _EXPIRY.pack(int(expires_at)) + plain, principal_id.encode())
        return base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode("ascii")

    def open(self, token: str, principal_id: str, now: float) -> bytes | None:
        """Return what was sealed, None for what is altered, respelled, expired or another principal's."""
        if not _TOKEN.fullmatch(token):
            return None
        try:
            octets = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            return None
        if base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii") != token:
            return None
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 (see _cipher)

        try:
            plain = self._cipher().decrypt(octets[:_NONCE_BYTES], octets[_NONCE_BYTES:], principal_id.encode())
        except InvalidTag:
            return None
        (expires_at,) = _EXPIRY.unpack_from(plain)
        return plain[_EXPIRY.size :] if expires_at > now else None

    def _cipher(self) -> ChaCha20Poly1305:
        """Return the cipher, loaded by the first use: it takes milliseconds and megabytes that most never need."""
        if self._aead is None:
            from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

            self._aead = ChaCha20Poly1305(self._key)
        return self._aead
