"""How a mistake in the configuration is told: where it is, what was expected, what came, and the nearest known key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec.inspect as mi

from only1mcp.errors import ConfigError

# More than this helps nobody, and a file made to fail must not fill the log.
MAX_PROBLEMS = 100
MAX_SHOWN = 60

_WORDING = {
    r"^[A-Za-z0-9][A-Za-z0-9_-]{0,47}$": "1 to 48 letters, digits, '_' or '-', beginning with a letter or digit",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "the name of an environment variable",
    r"^/[A-Za-z0-9._~/-]*$": "a path that begins with '/'",
    r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s]+$": "an http:// or https:// URL",
    r"^[A-Za-z0-9_.:%-]+$": "an IP address or host name",
    r"^[A-Za-z0-9_.-]{1,64}$": "a tool name: 1 to 64 letters, digits, '_', '-' or '.'",
    r"^[^\s/@?#*]+$": "a host, or host:port, without scheme and path",
    r"^[A-Za-z][A-Za-z0-9+.-]*://[^\s/@?#]+$": "an origin such as https://app.example.com, without a path",
    r"^[0-9A-Fa-f]{64}$": "a SHA-256 as 64 hexadecimal digits",
    r"^(redis|rediss|unix)://\S+$": "a redis://, rediss:// or unix:// URL",
    r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$": "the name of an HTTP header",
    r"^(internal://ping|https?://\S+)$": "internal://ping, or an http:// or https:// URL",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """Where something was written. Line 0: `file` is not a file but a variable or a flag."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Problems:
    """Collects everything that is wrong, to be raised as one `ConfigError` in the order of the files."""

    def __init__(self) -> None:
        self._found: dict[tuple[Mark, str], None] = {}
        self._files: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, mark: Mark, path: str, text: str) -> None:
        """Note a problem once; `path` may be empty where the file as a whole is meant."""
        self._files.setdefault(mark.file, len(self._files))
        self._found[mark, f"{path}: {text}" if path else text] = None

    def error(self) -> ConfigError:
        """Return what was found as the error to raise."""
        ordered = sorted(self._found, key=lambda found: (self._files[found[0].file], found[0].line, found[0].column))
        lines = [printable(f"{mark}: {text}") for mark, text in ordered[:MAX_PROBLEMS]]
        if len(ordered) > MAX_PROBLEMS:
            lines.append(f"and {len(ordered) - MAX_PROBLEMS} more")
        return ConfigError(lines)


def printable(text: str) -> str:
    """Return text with control characters and lone surrogates escaped: file names may hold anything."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shown(value: object) -> str:
    """Return `value` as it may stand in a message: quoted, escaped, short."""
    text = str(value)
    return repr(text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "...")


def join_path(path: str, step: str | int) -> str:
    """Return the path of a child: `servers[1].timeout_ms`; a key that is no plain word is quoted."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", step):
        return f"{path}[{shown(step)}]"
    return f"{path}.{step}" if path else step


def listed(words: Iterable[str], last: str = "or") -> str:
    """Return `a, b or c`."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def expected(wanted: mi.Type) -> str:
    """Say in words what a value of this type looks like."""
    match wanted:
        case mi.UnionType():
            return " or ".join(expected(one) for one in wanted.types if not isinstance(one, mi.NoneType))
        case mi.LiteralType():
            values = [str(value) for value in wanted.values]
            return values[0] if len(values) == 1 else f"one of {listed(values)}"
        case mi.IntType():
            return "an integer" + _bounds(wanted)
        case mi.FloatType():
            return "a number" + _bounds(wanted)
        case mi.BoolType():
            return "true or false"
        case mi.StrType():
            if wanted.pattern is not None:
                return _WORDING[wanted.pattern]
            return "text that is not empty" if wanted.min_length else "text"
        case mi.VarTupleType():
            return "a list"
        case _:
            return "a mapping"


def unknown_key(key: str, known: Sequence[str]) -> tuple[str, str | None]:
    """Return what to say of a key that is not known here, and the known key that was probably meant."""
    if f"{key}_env" in known:
        return f"unknown key: a secret is not written in the file, use {key}_env or {key}_file", f"{key}_env"
    plain = {re.sub(r"[^a-z0-9]", "", one.lower()): one for one in known}
    import difflib  # noqa: PLC0415 (only mistakes need it)

    near = difflib.get_close_matches(re.sub(r"[^a-z0-9]", "", key.lower())[:MAX_SHOWN], list(plain), 1, 0.7)
    if near:
        return f"unknown key, did you mean {plain[near[0]]}?", plain[near[0]]
    return f"unknown key, expected {listed(known)}", None


def _bounds(wanted: mi.IntType | mi.FloatType) -> str:
    low = f"above {wanted.gt:g}" if wanted.gt is not None else f"from {wanted.ge}" if wanted.ge is not None else ""
    high = "" if wanted.le is None else f" to {wanted.le}" if low.startswith("from") else f", at most {wanted.le}"
    return f" {low}{high}".rstrip()
