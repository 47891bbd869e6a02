"""What `lines.pyx` does, in plain Python: log lines whose values are plain, without an encoder."""

from __future__ import annotations

import re

# A longer line, or a larger number, is left to the encoder.
MAX_LINE_BYTES = 4096
MAX_NUMBER = 1 << 63
MAX_THOUSANDTHS = 10**15
# What JSON takes between quotation marks as it is, and what needs no quotation marks where values end with a blank.
_IN_QUOTES = re.compile(r"[ !#-\[\]-~]*")
_BARE = re.compile(r"[!#-<>-\[\]-~]+")


def event_line(
    start: bytes, names: tuple[bytes, ...], values: tuple[object, ...], end: bytes, quoted: bool
) -> bytes | None:
    """Return `start`, each name with its value behind it, and `end`; a field whose value is None is left out.

    Strings, and bytes, stand between quotation marks where `quoted`. Return None where a value is not plain, which
    somebody else must then encode: characters beyond printable ASCII or with a meaning, negative or huge numbers,
    floats with more than three decimals, other types.
    """
    parts = [start]
    for name, value in zip(names, values, strict=True):
        if value is None:
            continue
        text = _plain(value, quoted)
        if text is None:
            return None
        parts += [name, text]
    line = b"".join([*parts, end])
    return line if len(line) <= MAX_LINE_BYTES else None


def _plain(value: object, quoted: bool) -> bytes | None:
    if type(value) is int:
        return b"%d" % value if 0 <= value < MAX_NUMBER else None
    if type(value) is float:
        return _decimals(value)
    text = value.decode("latin-1") if type(value) is bytes else value
    if type(text) is not str or not (_IN_QUOTES if quoted else _BARE).fullmatch(text):
        return None
    return b'"%s"' % text.encode() if quoted else text.encode()


def _decimals(value: float) -> bytes | None:
    if not 0 < value < MAX_THOUSANDTHS / 1000:
        return None
    thousandths = int(value * 1000 + 0.5)
    if thousandths / 1000 != value:
        return None
    whole, rest = divmod(thousandths, 1000)
    return b"%d.%s" % (whole, (b"%03d" % rest).rstrip(b"0") or b"0")
