"""How items of many backends share one list: public names, qualified names, and which names an operator hides."""

from __future__ import annotations

import re
from collections.abc import Iterable

import xxhash

# LLM APIs take function names of at most this many characters.
MAX_NAME = 64
SEPARATOR = "__"
# A URI that two backends offer is given to clients in this form; it says who it belongs to without any memory.
URI_SCHEME = "only1mcp"


def qualified(group: str, name: str) -> str:
    """Return `<group>__<name>`, shortened with a hash of the whole where it would be longer than `MAX_NAME`."""
    return fitting(group + SEPARATOR + name)


def fitting(name: str) -> str:
    """Return the name itself, or its beginning and a hash of it all where it has more than `MAX_NAME` characters."""
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 9]}_{xxhash.xxh3_64_hexdigest(name.encode())[:8]}"


def apart(group: str, name: str) -> str:
    """Return a name for an item whose qualified name is taken: another group and name can be joined to the same."""
    digest = xxhash.xxh3_64_hexdigest(f"{group}\0{name}".encode())
    return f"{group}{SEPARATOR}{name}"[: MAX_NAME - 9] + "_" + digest[:8]


def qualified_uri(group: str, uri: str) -> str:
    """Return a URI or URI template of ours that names the group and carries the original as it is.

    Path, query and fragment may hold every character of a URI, so nothing is encoded and templates still expand.
    `ui:` URIs keep their scheme, by which clients know what they are.
    """
    if uri.startswith("ui:"):
        return f"ui://{URI_SCHEME}/{group}/{uri[3:]}"
    return f"{URI_SCHEME}://{group}/{uri}"


def split_uri(uri: str) -> tuple[str, str] | None:
    """Return group and original URI of what `qualified_uri` made, None for any other URI."""
    for prefix, scheme in ((f"{URI_SCHEME}://", ""), (f"ui://{URI_SCHEME}/", "ui:")):
        if uri.startswith(prefix):
            group, slash, rest = uri[len(prefix) :].partition("/")
            if slash:
                return group, scheme + rest
    return None


class Patterns:
    """Names with `*` for any run of characters, matched in linear time; an empty set of patterns matches nothing."""

    __slots__ = ("_exact", "_split")

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = list(patterns)
        self._exact = frozenset(pattern for pattern in patterns if "*" not in pattern)
        self._split = [pattern.split("*") for pattern in patterns if "*" in pattern]

    def match(self, name: str) -> bool:
        return name in self._exact or any(_matches(parts, name) for parts in self._split)


def _matches(parts: list[str], name: str) -> bool:
    """Match a pattern split at its stars: first and last part at the ends, the others leftmost in between."""
    first, *middle, last = parts
    end = len(name) - len(last)
    if end < len(first) or not name.startswith(first) or not name.endswith(last):
        return False
    position = len(first)
    for part in middle:
        found = name.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


_EXPRESSION = re.compile(r"\{([^{}]*)\}")
_OPERATORS = ("+", "#", ".", "/", ";", "?", "&")


class UriTemplate:
    """Tells whether a URI may come from an RFC 6570 template, in time linear in the URI's length.

    A simple `{name}` stands for characters without `/`, an expression with an operator (`{+path}`, `{/a,b}`) for any;
    literal text must be there in order. Only between two expressions that stand for any characters the first place of
    a literal is taken for the right one, which may be wrong where a simple expression follows it.
    """

    def __init__(self, template: str) -> None:
        pieces = _EXPRESSION.split(template)
        self._literals = pieces[0::2]
        self._any = [expression.startswith(_OPERATORS) for expression in pieces[1::2]]
        count = len(self._any)
        self._last = next((i for i in reversed(range(count)) if self._any[i]), count - 1)

    def match(self, uri: str) -> bool:
        literals, last = self._literals, self._last
        if not self._any:
            return uri == literals[0]
        left, right = len(literals[0]), len(uri) - len(literals[-1])
        if right < left or not uri.startswith(literals[0]) or not uri.endswith(literals[-1]):
            return False
        # From both ends the nearest place of a literal is the right one: it leaves most to the expressions between.
        for index in range(len(self._any) - 1, last, -1):
            place = uri.rfind(literals[index], left, right)
            if place < 0 or "/" in uri[place + len(literals[index]) : right]:
                return False
            right = place
        for index in range(last):
            literal = literals[index + 1]
            place = uri.find(literal, left, right)
            if place < 0 or (not self._any[index] and "/" in uri[left:place]):
                return False
            left = place + len(literal)
        return self._any[last] or "/" not in uri[left:right]
