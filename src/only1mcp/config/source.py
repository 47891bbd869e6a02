"""YAML text to a tree of nodes that know where they were written; any bytes give a tree or problems, nothing else.

The tree is built from parser events and not by PyYAML's constructors: those lose the positions, let a later duplicate
key win, and build whatever a tag asks for. Plain scalars mean what they mean to PyYAML (YAML 1.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from only1mcp.config.messages import Mark, Problems, join_path, shown

# A configuration of 10,000 backends has about 2 MB of JSON-like text; one that is larger by far was made to exhaust us.
MAX_FILE_BYTES = 1 << 20
# The schema is 6 deep. Deeper nesting only serves to exhaust the stack.
MAX_DEPTH = 32
# Counted with every alias expanded: nine lines of nested aliases make a billion nodes ("billion laughs").
MAX_NODES = 200_000
# PyYAML reads 1:59:59... as one sexagesimal number at quadratic cost.
MAX_NUMBER_LENGTH = 64

_TAG = "tag:yaml.org,2002:"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Scalar = str | int | float | bool | None


@dataclass(slots=True, eq=False)
class Node:
    """A value of the file. `path` is its place there, `text` a scalar's spelling, `keys` where a mapping's keys stand.

    `lax` marks text from the environment or a flag, which may stand for a number or a boolean. `bad` marks a value
    about which a problem is noted already, so that no second one follows from it.
    """

    mark: Mark
    path: str
    value: Scalar | list[Node] | dict[str, Node]
    text: str = ""
    keys: dict[str, Mark] = field(default_factory=dict)
    size: int = 1
    lax: bool = False
    bad: bool = False

    def get(self, *steps: str) -> Node | None:
        """Return the node at these keys, or None."""
        node: Node | None = self
        for step in steps:
            if node is None or not isinstance(node.value, dict):
                return None
            node = node.value.get(step)
        return node

    def nearest(self, *steps: str) -> Node:
        """Return the node at these keys, or the last one on the way that exists."""
        node = self
        for step in steps:
            below = node.get(step)
            if below is None:
                break
            node = below
        return node


def read_file(path: Path, problems: Problems) -> Node | None:
    """Return the tree of a YAML file, None when problems were noted. Raise FileNotFoundError as `open` does."""
    mark = Mark(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except IsADirectoryError:
        problems.add(mark, "", "expected a YAML file, got a directory")
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problems.add(mark, "", f"cannot be read: {reason.lower()}")
        return None
    return parse(data, str(path), problems)


def parse(data: bytes, file: str, problems: Problems) -> Node | None:
    """Return the tree of one YAML document; None when problems were noted that leave no tree."""
    if len(data) > MAX_FILE_BYTES:
        problems.add(Mark(file), "", f"expected at most {MAX_FILE_BYTES >> 20} MiB, got more")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        mark = Mark(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        problems.add(mark, "", f"expected UTF-8 text, got the byte 0x{data[error.start]:02x}")
        return None
    reader = _Reader(text, file, problems)
    try:
        return reader.document()
    except _Stop as stop:
        problems.add(stop.mark, "", stop.text)
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        mark = Mark(file) if where is None else Mark(file, where.line + 1, where.column + 1)
        lines = text.splitlines()
        hint = (
            " (put a value with ${...} in quotes)" if mark.line and "${" in "".join(lines[mark.line - 1 :][:1]) else ""
        )
        problems.add(mark, "", f"not valid YAML: {error.problem or error.context}{hint}")
    except yaml.YAMLError as error:
        # Reader errors: a character that YAML does not allow. The position may be None or count bytes.
        reason = getattr(error, "reason", None) or str(error).splitlines()[0]
        problems.add(Mark(file), "", f"not valid YAML: {reason}")
    return None


def overlay(base: Node, top: Node) -> Node:
    """Return `base` with `top` laid over it: mappings are merged, anything else is replaced."""
    if not isinstance(top.value, dict):
        return top
    if not isinstance(base.value, dict):
        # A section of the wrong type stays, so that it is reported; an empty one gives way.
        return top if base.value is None else base
    merged = dict(base.value)
    for key, node in top.value.items():
        merged[key] = overlay(merged[key], node) if key in merged else node
    return Node(base.mark, base.path, merged, keys=base.keys | top.keys)


def tree(mark: Mark, values: Mapping[str, Any]) -> Node:
    """Return a tree from dotted paths and plain values, all written at `mark` (a variable or a flag)."""
    root = Node(mark, "", {})
    for dotted, value in values.items():
        node = root
        *steps, last = dotted.split(".")
        for step in steps:
            assert isinstance(node.value, dict)
            node.keys[step] = mark
            node = node.value.setdefault(step, Node(mark, join_path(node.path, step), {}))
        assert isinstance(node.value, dict)
        node.keys[last] = mark
        node.value[last] = _plain(mark, join_path(node.path, last), value)
    return root


def directory_of(mark: Mark) -> Path:
    """Return what a relative file name written at `mark` is relative to: its file's folder, else the working folder."""
    return Path(mark.file).absolute().parent if mark.line else Path.cwd()


def _plain(mark: Mark, path: str, value: Any) -> Node:
    if isinstance(value, (list, tuple)):
        return Node(mark, path, [_plain(mark, join_path(path, i), one) for i, one in enumerate(value)])
    return Node(mark, path, value, text=str(value), lax=isinstance(value, str))


class _Stop(Exception):
    """Nothing after this point can be read."""

    def __init__(self, mark: Mark, text: str) -> None:
        super().__init__(text)
        self.mark = mark
        self.text = text


class _Reader:
    """One document's events to nodes."""

    def __init__(self, text: str, file: str, problems: Problems) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self._file = file
        self._problems = problems

        self._resolver: Any = yaml.resolver.Resolver()
        self._constructor: Any = yaml.constructor.SafeConstructor()

        self._anchors: dict[str, Node | None] = {}
        self._nodes = 0

    def document(self) -> Node:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise _Stop(self._mark(event), "expected one document, got a second one ('---')")
                root = self._node(next(self._events), "", 0)
        return root if root is not None else Node(Mark(self._file, 1, 1), "", None)

    def _node(self, event: Any, path: str, depth: int) -> Node:
        mark = self._mark(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, mark)
        self._count(1, mark)
        if depth > MAX_DEPTH:
            raise _Stop(mark, f"expected at most {MAX_DEPTH} levels of nesting, got more")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, mark, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(event, mark, path, depth)
        else:
            node = self._mapping(event, mark, path, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, anchor: str | None, mark: Mark) -> Node:
        if anchor is None or anchor not in self._anchors:
            raise _Stop(mark, f"alias {shown(anchor)} has no anchor before it")
        node = self._anchors[anchor]
        if node is None:
            raise _Stop(mark, f"alias {shown(anchor)} contains itself")
        self._count(node.size, mark)
        return node

    def _count(self, nodes: int, mark: Mark) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _Stop(mark, f"expected at most {MAX_NODES} values (aliases expanded), got more")

    def _scalar(self, event: Any, mark: Mark, path: str) -> Node:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
        node = Node(mark, path, event.value, text=event.value)
        match tag.removeprefix(_TAG):
            # A date or a lone `=` stays the text that it is: no key takes anything else.
            case "str" | "timestamp" | "value" | "merge":
                return node
            case "null":
                node.value = None
            case "bool" | "int" | "float" as kind:
                scalar = yaml.ScalarNode(tag, event.value)
                try:
                    if len(event.value) > MAX_NUMBER_LENGTH:
                        raise ValueError
                    node.value = getattr(self._constructor, f"construct_yaml_{kind}")(scalar)
                except (ValueError, IndexError, KeyError, OverflowError):
                    node.bad = True
                    self._problems.add(mark, path, f"expected a plain value, got {shown(event.value)} as {kind}")
            case _:
                node.bad = True
                self._problems.add(mark, path, f"expected a plain value, got the tag {shown(tag)}")
        return node

    def _list(self, event: Any, mark: Mark, path: str, depth: int) -> Node:
        self._expect_tag(event, "seq", mark, path)
        before = self._nodes
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, join_path(path, len(items)), depth + 1))
        return Node(mark, path, items, size=self._nodes - before + 1)

    def _mapping(self, event: Any, mark: Mark, path: str, depth: int) -> Node:
        self._expect_tag(event, "map", mark, path)
        before = self._nodes
        values: dict[str, Node] = {}
        keys: dict[str, Mark] = {}
        merged: list[Node] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            place = self._mark(event)
            if self._is_merge(event):
                self._count(1, place)
                merged += self._merge(self._node(next(self._events), path, depth + 1))
                continue
            key = self._node(event, path, depth + 1)
            named = key.value if isinstance(key.value, str) else None
            value = self._node(next(self._events), join_path(path, named if named is not None else key.text), depth + 1)
            if named is None:
                what = f"{key.text}, which YAML does not read as text: put it in quotes" if key.text else "none"
                self._problems.add(place, path, f"expected a key that is text, got {what}")
            elif named in keys:
                first = keys[named]
                self._problems.add(place, join_path(path, named), f"written twice, first at line {first.line}")
            else:
                values[named], keys[named] = value, place
        for one in merged:
            assert isinstance(one.value, dict)
            for name, value in one.value.items():
                if name not in values:
                    values[name], keys[name] = value, one.keys[name]
        return Node(mark, path, values, keys=keys, size=self._nodes - before + 1)

    def _is_merge(self, event: Any) -> bool:
        return isinstance(event, yaml.ScalarEvent) and (
            (event.value == "<<" and event.implicit[0] and event.tag is None) or event.tag == _TAG + "merge"
        )

    def _merge(self, node: Node) -> list[Node]:
        sources = node.value if isinstance(node.value, list) else [node]
        wrong = [one for one in sources if not isinstance(one.value, dict)]
        for one in wrong:
            self._problems.add(one.mark, one.path, "expected a mapping to merge with '<<'")
        return [one for one in sources if one not in wrong]

    def _expect_tag(self, event: Any, kind: str, mark: Mark, path: str) -> None:
        if event.tag not in (None, "!", _TAG + kind):
            self._problems.add(mark, path, f"expected a plain value, got the tag {shown(event.tag)}")

    def _mark(self, event: Any) -> Mark:
        return Mark(self._file, event.start_mark.line + 1, event.start_mark.column + 1)
