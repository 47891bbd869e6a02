"""What is sent: operations with their shares, from options (`search={"q":"x"}:3`) or a file, and their order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from only1mcp.wire.mcp import NAMED_BY

# The order of a whole round is laid out beforehand.
MAX_WEIGHT: Final = 10_000
MAX_OPERATIONS: Final = 1_000
MAX_ROUND: Final = 1_000_000
MAX_FILE_BYTES: Final = 64 << 20

_WEIGHT: Final = re.compile(r"(.*):([0-9]{1,9})", re.DOTALL)
# They open a session, or streams that have no end, and both belong to the load generator or to nobody.
_NOT_FOR_LOAD: Final = ("initialize", "subscriptions/listen")
_KEYS: Final = frozenset({"tool", "arguments", "method", "params", "weight"})


class MixError(ValueError):
    """What is to be sent cannot be understood; the message says why."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of request: its method, its params as a JSON object, how often it comes among the others."""

    method: str
    params: bytes = b"{}"
    weight: int = 1

    @property
    def name(self) -> str | None:
        """The tool, prompt or URI it is about, for methods that have one."""
        key = NAMED_BY.get(self.method)
        name = orjson.loads(self.params).get(key) if key is not None else None
        return name if isinstance(name, str) else None

    @property
    def label(self) -> str:
        """How reports call it."""
        return self.method if self.name is None else f"{self.method} {self.name}"


DEFAULT_MIX: Final = (Operation("tools/list"),)


def parse_tool(text: str) -> Operation:
    """Read `NAME[=ARGUMENTS][:WEIGHT]`; a name that holds `=` needs a file, one that ends like a weight `={}`."""
    name, value, weight = _taken_apart(text)
    if not name:
        raise MixError(f"expected NAME, NAME=JSON or NAME=JSON:WEIGHT, got {text!r:.80}")
    return tool(name, value, weight)


def parse_method(text: str) -> Operation:
    """Read `METHOD[=PARAMS][:WEIGHT]`."""
    name, value, weight = _taken_apart(text)
    if not name:
        raise MixError(f"expected METHOD, METHOD=JSON or METHOD=JSON:WEIGHT, got {text!r:.80}")
    return operation(name, value, weight)


def tool(name: str, arguments: bytes, weight: int) -> Operation:
    """Return the call of a tool; `arguments` is JSON and keeps its spelling."""
    _object(arguments, f"arguments of {name!r:.80}")
    try:
        params = b'{"name":' + orjson.dumps(name) + b',"arguments":' + arguments + b"}"
    except TypeError:
        raise MixError(f"the tool's name: expected UTF-8, got {name!r:.80}") from None
    return operation("tools/call", params, weight)


def operation(method: str, params: bytes, weight: int) -> Operation:
    """Return the operation, checked."""
    if method in _NOT_FOR_LOAD or method.startswith("notifications/"):
        raise MixError(f"{method} is no request that can be repeated and answered")
    if not method.isascii() or not method.isprintable() or " " in method:
        raise MixError(f"expected a method such as tools/list, got {method!r:.80}")
    fields = _object(params, f"params of {method}")
    key = NAMED_BY.get(method)
    if key is not None and not isinstance(fields.get(key), str):
        raise MixError(f'{method} needs params with a string {key!r}: {method}={{"{key}":"..."}}')
    if not 1 <= weight <= MAX_WEIGHT:
        raise MixError(f"expected a weight from 1 to {MAX_WEIGHT}, got {weight}")
    return Operation(method, params, weight)


def load_mix(path: Path) -> list[Operation]:
    """Read a YAML or JSON file: a list of `{tool, arguments, weight}` and `{method, params, weight}`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise MixError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if len(data) > MAX_FILE_BYTES:
        raise MixError(f"{path}: longer than {MAX_FILE_BYTES >> 20} MB")
    try:
        entries = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MixError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(entries, list) or not entries:
        raise MixError(f"{path}: expected a list of entries with tool or method")
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            found.append(_entry(entry))
        except MixError as error:
            raise MixError(f"{path}: entry {number}: {error}") from None
    return found


def layout(operations: Sequence[Operation]) -> list[int]:
    """Return the order of one round, as places in `operations`: each as often as its weight, evenly spread."""
    if len(operations) > MAX_OPERATIONS:
        raise MixError(f"expected at most {MAX_OPERATIONS} operations, got {len(operations)}")
    total = sum(each.weight for each in operations)
    if total > MAX_ROUND:
        raise MixError(f"expected weights that add up to at most {MAX_ROUND}, got {total}")
    turns = (
        ((turn + 0.5) / each.weight, place) for place, each in enumerate(operations) for turn in range(each.weight)
    )
    return [place for _, place in sorted(turns)]


def _taken_apart(text: str) -> tuple[str, bytes, int]:
    weight = 1
    found = _WEIGHT.fullmatch(text)
    # Within JSON that goes on after it a colon is no weight.
    if found is not None and ("=" not in found[1] or found[1].rstrip().endswith("}")):
        text, weight = found[1], int(found[2])
    name, equals, value = text.partition("=")
    return name, value.encode(errors="surrogateescape") if equals else b"{}", weight


def _object(text: bytes, what: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MixError(f"{what}: expected a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise MixError(f"{what}: expected a JSON object, got {text[:60].decode(errors='replace')!r}")
    return value


def _entry(entry: Any) -> Operation:
    if not isinstance(entry, dict) or ("tool" in entry) == ("method" in entry):
        raise MixError("expected either tool or method")
    unknown = [str(key) for key in entry if key not in _KEYS]
    if unknown:
        raise MixError(f"unknown key {unknown[0]!r:.60}, expected {', '.join(sorted(_KEYS))}")
    key, inner, build = ("tool", "arguments", tool) if "tool" in entry else ("method", "params", operation)
    if not isinstance(entry[key], str) or not entry[key]:
        raise MixError(f"{key}: expected a name, got {entry[key]!r:.60}")
    if ("arguments" in entry) if key == "method" else ("params" in entry):
        raise MixError("tool goes with arguments, method with params")
    weight = entry.get("weight", 1)
    if not isinstance(weight, int) or isinstance(weight, bool):
        raise MixError(f"weight: expected a whole number, got {weight!r:.60}")
    try:
        value = orjson.dumps(entry.get(inner) if entry.get(inner) is not None else {})
    except TypeError as error:  # YAML knows dates and sets, JSON does not; keys that are no strings
        raise MixError(f"{inner}: {error}") from None
    return build(entry[key], value, weight)
