"""Request headers that mirror the body: `Mcp-Name`, `Mcp-Param-*` and the `x-mcp-header` annotations behind them.

MCP 2026-07-28, Streamable HTTP, "Value Encoding" and "Custom Headers from Tool Parameters". Values are compared only
after validation of the body and are never decoded before their size is known to be small.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

from only1mcp._fast import members
from only1mcp.errors import INVALID_PARAMS, ProtocolError
from only1mcp.wire.mcp import HEADER_MISMATCH, HEADER_PARAM_PREFIX

Path = tuple[str, ...]
Annotation = tuple[Path, str]

ANNOTATION: Final = "x-mcp-header"
# A mirrored value is at most this long on the wire. A longer one would make us decode and copy it on every request
# before the body has been looked at; common servers refuse header lines above 8 KiB anyway.
MAX_VALUE_BYTES: Final = 8192
# A hostile backend could annotate thousands of properties and have every call carry as many headers.
MAX_ANNOTATIONS: Final = 64
MAX_TOKEN_CHARS: Final = 128
# Every object on the way to an annotated property is walked over once; a backend could have a body walked over as
# often as a path is long.
MAX_PATH: Final = 8
# How long an argument's JSON text may be that a header says again: that of the longest value in escapes.
MAX_TEXT_BYTES: Final = 6 * MAX_VALUE_BYTES + 2
# Above this, a number that was decoded to a float is no longer the number that was written (RFC 8259 section 6).
MAX_EXACT_FLOAT: Final = 2**53 - 1

_PREFIX: Final = "=?base64?"
_SUFFIX: Final = "?="
_PLAIN: Final = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?")
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DECIMAL: Final = re.compile(r"(-?[0-9]{1,20})(?:\.0{1,20})?")
_OBJECT: Final = ord("{")
_ARRAY: Final = ord("[")
_TYPES: Final = frozenset({"string", "integer", "boolean"})

# JSON Schema 2020-12 keywords whose values hold schemas, by shape. Keywords that hold instance data (`default`, `enum`,
# `const`, `examples`) are not entered, and `$ref` is not followed, so the walk ends on any JSON value.
_ONE_SCHEMA: Final = frozenset(
    {"items", "contains", "additionalItems", "unevaluatedItems", "additionalProperties", "unevaluatedProperties"}
    | {"propertyNames", "not", "if", "then", "else", "contentSchema"}
)
_SCHEMA_LIST: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_SCHEMA_MAP: Final = frozenset({"patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions"})


# The names of a few tools are mirrored in most requests. Typed, because True equals 1.
@lru_cache(maxsize=256, typed=True)
def encode_header(value: str | int | bool) -> bytes:
    """Return the field value that carries `value`: plain where that is safe, else in the base64 form."""
    if value is True or value is False:
        return b"true" if value else b"false"
    text = str(value)
    if _PLAIN.fullmatch(text) and not (text.startswith(_PREFIX) and text.endswith(_SUFFIX)):
        return text.encode("ascii")
    return b"=?base64?" + base64.b64encode(text.encode("utf-8")) + b"?="


@lru_cache(maxsize=256)
def decode_header(value: bytes) -> str:
    """Return the text of a field value; raise `ProtocolError` (-32020) for what no sender may write.

    Base64 is decoded strictly: alphabet, padding and unused bits must be what the encoder writes, and the octets UTF-8.
    A value without the exact lower-case markers is literal.
    """
    if len(value) > MAX_VALUE_BYTES:
        raise _mismatch(f"expected a mirrored header of at most {MAX_VALUE_BYTES} octets, got {len(value)}")
    text = value.strip(b" \t").decode("latin-1")
    if not _FIELD_VALUE.fullmatch(text):
        raise _mismatch("expected visible ASCII in a mirrored header; other text is sent as =?base64?...?=")
    if len(text) < len(_PREFIX) + len(_SUFFIX) or not (text.startswith(_PREFIX) and text.endswith(_SUFFIX)):
        return text
    payload = text[len(_PREFIX) : -len(_SUFFIX)].encode("ascii")
    try:
        octets = base64.b64decode(payload, validate=True)
        if base64.b64encode(octets) != payload:
            raise _mismatch("expected canonical base64 in a mirrored header")
        return octets.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise _mismatch("expected base64 of UTF-8 text in a mirrored header") from None


def header_params(schema: Any) -> list[Annotation]:
    """Return `(path of property names, token)` for each annotated property of a tool's `inputSchema`, in its order.

    Raise `ValueError` with the reason when an annotation is invalid, or beyond our bounds: the tool must then be
    dropped from every list.
    """
    found: list[Annotation] = []
    owners: dict[str, str] = {}
    for path, node in _schemas(schema):
        if ANNOTATION not in node:
            continue
        where = f"property {'.'.join(path)!r:.100}" if path else "the schema"
        if not path:
            raise ValueError(f"{ANNOTATION} is allowed only on a property reached through `properties` alone")
        if len(path) > MAX_PATH:
            raise ValueError(f"{where}: {ANNOTATION} is more than {MAX_PATH} objects deep")
        token = node[ANNOTATION]
        if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS or not _TOKEN.fullmatch(token):
            raise ValueError(f"{where}: expected {ANNOTATION} to be a header name token, got {token!r:.60}")
        if not isinstance(node.get("type"), str) or node["type"] not in _TYPES:
            raise ValueError(
                f"{where}: {ANNOTATION} needs type string, integer or boolean, got {node.get('type')!r:.60}"
            )
        other = owners.setdefault(token.lower(), where)
        if other is not where:
            raise ValueError(f"{where}: {ANNOTATION} {token!r} is already used by {other}")
        found.append((path, token))
        if len(found) > MAX_ANNOTATIONS:
            raise ValueError(f"more than {MAX_ANNOTATIONS} properties carry {ANNOTATION}")
    return found


def annotated_arguments(data: bytes, arguments: tuple[int, int], annotations: Sequence[Annotation]) -> dict[str, Any]:
    """Return those of the arguments (a JSON text at this place) that are annotated; the others are not decoded.

    Raise `ProtocolError` (-32602) where an annotated argument is longer than any header, or cannot be read, and where
    an object on the way to one has a key twice: two readers could then take it for two values.
    """
    wanted: dict[str, Any] = {}
    for path, _ in annotations:
        inner = wanted
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner.setdefault(path[-1], {})
    try:
        found = _decoded(data, arguments, wanted)
    except ProtocolError as error:
        raise ProtocolError(f"params.arguments cannot be read: {error}", code=INVALID_PARAMS) from None
    return found if isinstance(found, dict) else {}


def _decoded(data: bytes, span: tuple[int, int], wanted: Mapping[str, Any]) -> Any:
    """Return the value at the place: of an object the members that are wanted, of an array nothing."""
    start, end = span
    if data[start] == _ARRAY:
        return []
    if data[start] == _OBJECT:
        if not wanted:
            return {}
        fields = members(data, start, end)
        return {key: _decoded(data, fields[key], inner) for key, inner in wanted.items() if key in fields}
    if end - start > MAX_TEXT_BYTES:
        raise ProtocolError(f"an argument of {end - start} bytes is too long for its header")
    return orjson.loads(data[start:end])


def param_headers(annotations: Sequence[Annotation], arguments: Mapping[str, Any]) -> tuple[tuple[bytes, bytes], ...]:
    """Return the `Mcp-Param-*` fields, names in lower case, that a `tools/call` with these arguments must carry.

    Null and absent arguments have none, nor have values that the annotated type excludes (arrays, objects). Raise
    `ProtocolError` (-32602) for a value that no header may carry.
    """
    headers = []
    for path, token in annotations:
        text = _rendered(_value_at(arguments, path))
        if text is not None:
            value = encode_header(text)
            if len(value) > MAX_VALUE_BYTES:
                what = f"argument {'.'.join(path)!r:.100} is too long for its header: {len(value)} octets"
                raise ProtocolError(f"{what}, at most {MAX_VALUE_BYTES} can be mirrored", code=INVALID_PARAMS)
            headers.append((_header_name(token), value))
    return tuple(headers)


def check_params(
    annotations: Sequence[Annotation], arguments: Mapping[str, Any], headers: Iterable[tuple[bytes, bytes]]
) -> None:
    """Raise `ProtocolError` (-32020, HTTP 400) unless every annotated argument and its header say the same.

    `headers` are the request's fields with lower-case names. A header without a value in the body is refused too:
    something on the way may have routed by it. Fields that no annotation names are ignored.
    """
    sent: dict[bytes, bytes] = {}
    twice: set[bytes] = set()
    for name, value in headers:
        if name.startswith(HEADER_PARAM_PREFIX):
            if name in sent:
                twice.add(name)
            sent[name] = value
    for path, token in annotations:
        header = _header_name(token)
        argument = f"{'.'.join(path)!r:.100}"
        if header in twice:
            raise _mismatch(f"header Mcp-Param-{token} occurs more than once")
        value = _value_at(arguments, path)
        text = _rendered(value)
        raw = sent.get(header)
        if raw is None:
            if text is not None:
                raise _mismatch(f"header Mcp-Param-{token} is missing, but argument {argument} has a value")
        elif text is None:
            raise _mismatch(f"header Mcp-Param-{token} is present, but argument {argument} has no value to mirror")
        elif not _same(value, text, decode_header(raw)):
            raise _mismatch(f"header Mcp-Param-{token} differs from argument {argument}")


def _schemas(root: Any) -> Iterator[tuple[Path | None, dict[str, Any]]]:
    """Yield every schema in `root` with its path of `properties` keys; None once any other keyword was crossed."""
    stack: list[tuple[Path | None, Any]] = [((), root)]
    while stack:
        path, node = stack.pop()
        if not isinstance(node, dict):
            continue
        yield path, node
        inner: list[tuple[Path | None, Any]] = []
        for keyword, value in node.items():
            if keyword == "properties" and isinstance(value, dict):
                inner.extend((None if path is None else (*path, name), sub) for name, sub in value.items())
            elif keyword in _SCHEMA_LIST and isinstance(value, list):
                inner.extend((None, sub) for sub in value)
            elif keyword in _SCHEMA_MAP and isinstance(value, dict):
                inner.extend((None, sub) for sub in value.values())
            elif keyword in _ONE_SCHEMA:
                inner.append((None, value))
        stack.extend(reversed(inner))


def _header_name(token: str) -> bytes:
    return HEADER_PARAM_PREFIX + token.lower().encode("ascii")


def _value_at(arguments: Any, path: Path) -> Any:
    for key in path:
        if not isinstance(arguments, Mapping):
            return None
        arguments = arguments.get(key)
    return arguments


def _rendered(value: Any) -> str | None:
    """Return the text that mirrors an argument, or None when there is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not value.is_integer():
            return repr(value)
        return str(int(value)) if abs(value) <= MAX_EXACT_FLOAT else None
    return str(value) if isinstance(value, (str, int)) else None


def _same(value: Any, text: str, mirrored: str) -> bool:
    """Compare exactly, but integers as numbers: 42, 42.0 and 042 agree."""
    if mirrored == text:
        return True
    if isinstance(value, (bool, str)):
        return False
    number = _DECIMAL.fullmatch(mirrored)
    return number is not None and int(number[1]) == value


def _mismatch(message: str) -> ProtocolError:
    return ProtocolError(message, code=HEADER_MISMATCH)
