"""A tree of nodes to frozen Structs, each value checked by itself: every mistake is found, not only the first."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import msgspec.inspect as mi

from only1mcp.config.messages import Problems, expected, join_path, shown, unknown_key
from only1mcp.config.secret import Secret
from only1mcp.config.source import Node
from only1mcp.config.variables import Expanded, VariableError, expand

Hook = Callable[[dict[str, Any], Node], None]

BAD: Any = object()
_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
# Under these keys a value is often a credential: a message tells its kind only.
_PRIVATE = ("env", "headers", "url", "args")


class Builder:
    """Builds values of the schema's types.

    `lenient` leaves out what needs an unset variable and calls no hook: to check a part that is not in force. A hook of
    a Struct class may change its field values before the Struct is made. After building, `node_of` tells where a Struct
    came from and `expanded` holds the paths of the values that took something from the environment.
    """

    def __init__(
        self,
        problems: Problems,
        env: Mapping[str, str],
        *,
        hooks: Mapping[type, Hook] | None = None,
        lenient: bool = False,
    ) -> None:
        self._problems = problems
        self._env = env
        self._hooks = hooks or {}
        self._lenient = lenient
        self._origin: dict[int, tuple[Any, Node]] = {}
        self.expanded: set[str] = set()
        self.skipped: set[int] = set()
        self._meant: set[tuple[int, str | None]] = set()
        self._trail: list[str | int] = []

    def build(self, cls: type, node: Node, *, partial: bool = False) -> Any:
        """Return the Struct, or `BAD`; `partial` allows required keys of the outermost mapping to be missing."""
        return self._struct(node, _type_of(cls), partial=partial)

    def node_of(self, struct: msgspec.Struct) -> Node | None:
        """Return the node that a Struct was built from; None for one that is all defaults."""
        found = self._origin.get(id(struct))
        return None if found is None else found[1]

    def unusable(self, node: Node | None) -> bool:
        """Tell whether a node's value was refused or left out, so that rules about it have nothing to say."""
        return node is not None and (node.bad or id(node) in self.skipped)

    def was_meant(self, node: Node, key: str) -> bool:
        """Tell whether an unknown key of this mapping was probably a slip for `key`."""
        return (id(node), key) in self._meant

    def _value(self, node: Node, wanted: mi.Type, private: bool) -> Any:
        if node.bad:
            return BAD
        match wanted:
            case mi.UnionType():
                return self._union(node, wanted, private)
            case mi.StructType():
                return self._struct(node, wanted)
            case mi.VarTupleType():
                return self._tuple(node, wanted, private)
            case mi.DictType():
                return self._dict(node, wanted, private)
            case mi.AnyType():
                return None
        return self._leaf(node, (wanted,), private)

    def _below(self, step: str | int, node: Node, wanted: mi.Type, private: bool) -> Any:
        self._trail.append(step)
        try:
            return self._value(node, wanted, private)
        finally:
            self._trail.pop()

    def _struct(self, node: Node, wanted: mi.Type, *, partial: bool = False) -> Any:
        assert isinstance(wanted, mi.StructType)
        if not isinstance(node.value, dict):
            return self._refuse(node, wanted)
        outer = self._lenient
        # What is switched off must have the right shape, but needs no credentials.
        self._lenient = outer or ((off := node.value.get("enabled")) is not None and off.value is False)
        try:
            return self._fields(node, node.value, wanted, partial)
        finally:
            self._lenient = outer

    def _fields(self, node: Node, given: dict[str, Node], wanted: mi.StructType, partial: bool) -> Any:
        fields = {one.name: one for one in wanted.fields if not _is_secret(one.type)}
        for key in given.keys() - fields.keys():
            text, near = unknown_key(key, list(fields))
            self._meant.add((id(node), near))
            self._problems.add(node.keys[key], join_path(node.path, key), text)
        values: dict[str, Any] = {}
        usable = True
        for name, one in fields.items():
            below = given.get(name)
            if below is not None and not (below.value is None and _may_be_empty(one) and not below.bad):
                value = self._below(name, below, one.type, name in _PRIVATE)
                if value is not BAD:
                    values[name] = value
                elif one.required:
                    usable = False
            elif one.required:
                usable = False
                if not partial and not self.was_meant(node, name):
                    self._problems.add(node.mark, node.path, f"the key {name} is missing ({expected(one.type)})")
        if not usable:
            return BAD
        hook = self._hooks.get(wanted.cls)
        if hook is not None and not self._lenient:
            hook(values, node)
        struct = wanted.cls(**values)
        self._origin[id(struct)] = (struct, node)
        return struct

    def _union(self, node: Node, wanted: mi.UnionType, private: bool) -> Any:
        types = tuple(one for one in wanted.types if not isinstance(one, mi.NoneType))
        optional = len(types) < len(wanted.types)
        if optional and node.value is None:
            return None
        if len(types) == 1 and isinstance(types[0], (mi.StructType, mi.VarTupleType, mi.DictType)):
            return self._value(node, types[0], private)
        return self._leaf(node, types, private, optional)

    def _tuple(self, node: Node, wanted: mi.VarTupleType, private: bool) -> Any:
        if not isinstance(node.value, list):
            return self._refuse(node, wanted, private=private)
        values = [self._below(i, one, wanted.item_type, private) for i, one in enumerate(node.value)]
        return tuple(one for one in values if one is not BAD)

    def _dict(self, node: Node, wanted: mi.DictType, private: bool) -> Any:
        if not isinstance(node.value, dict):
            return self._refuse(node, wanted, private=private)
        values: dict[str, Any] = {}
        for key, below in node.value.items():
            if not _fits_text(key, wanted.key_type):
                text = f"expected {expected(wanted.key_type)} as key"
                self._problems.add(node.keys[key], join_path(node.path, key), text)
                continue
            value = self._below(key, below, wanted.value_type, private)
            if value is not BAD:
                values[key] = value
        return values

    def _leaf(self, node: Node, types: tuple[mi.Type, ...], private: bool, optional: bool = False) -> Any:
        value: Any = node.value
        source = Expanded("")
        if isinstance(value, str):
            try:
                source = expand(value, self._env) if not node.lax else Expanded(value, whole=True)
            except VariableError as error:
                if error.unset and self._lenient:
                    self.skipped.add(id(node))
                    return BAD
                return self._note(node, str(error))
            value = source.text
            if source.names:
                self.expanded.add(functools.reduce(join_path, self._trail, ""))
            if optional and not value:
                return None
        for wanted in types:
            fitting = _fit(value, wanted, lax=source.whole)
            if fitting is not BAD:
                return fitting
        union = types[0] if len(types) == 1 else mi.UnionType(types)
        return self._refuse(node, union, names=source.names, private=private)

    def _refuse(self, node: Node, wanted: mi.Type, *, names: tuple[str, ...] = (), private: bool = False) -> Any:
        return self._note(node, f"expected {expected(wanted)}, got {_came(node, wanted, names, private)}")

    def _note(self, node: Node, text: str) -> Any:
        node.bad = True
        self._problems.add(node.mark, node.path, text)
        return BAD


# The schema never changes, and walking it costs more than most files.
_type_of = functools.cache(mi.type_info)


def _fit(value: Any, wanted: mi.Type, *, lax: bool) -> Any:
    """Return `value` as the wanted type, or BAD. Only lax text may become something else."""
    match wanted:
        case mi.BoolType():
            if lax and isinstance(value, str):
                word = value.strip().lower()
                return True if word in _TRUE else False if word in _FALSE else BAD
            return value if isinstance(value, bool) else BAD
        case mi.IntType() | mi.FloatType():
            return _fit_number(value, wanted, lax)
        case mi.LiteralType():
            for one in wanted.values:
                if value == one or (lax and isinstance(value, str) and value.strip().lower() == str(one).lower()):
                    return one
            return BAD
        case mi.StrType():
            return value if isinstance(value, str) and _fits_text(value, wanted) else BAD
    raise AssertionError(f"the schema uses a type that is not built: {wanted}")


def _fit_number(value: Any, wanted: mi.IntType | mi.FloatType, lax: bool) -> Any:
    if lax and isinstance(value, str):
        word = value.strip()
        if re.fullmatch(r"[+-]?[0-9]{1,20}", word):
            value = int(word)
        elif re.fullmatch(r"[+-]?[0-9]{1,20}\.[0-9]{1,20}", word):
            value = float(word)
    if isinstance(value, bool) or not isinstance(value, int if isinstance(wanted, mi.IntType) else (int, float)):
        return BAD
    # Written so that NaN, which compares false with everything, does not pass.
    inside = (
        (wanted.gt is None or value > wanted.gt)
        and (wanted.ge is None or value >= wanted.ge)
        and (wanted.le is None or value <= wanted.le)
    )
    if not inside:
        return BAD
    return value if isinstance(wanted, mi.IntType) else float(value)


def _fits_text(value: str, wanted: mi.Type) -> bool:
    assert isinstance(wanted, mi.StrType)
    if "\0" in value or (wanted.min_length is not None and len(value) < wanted.min_length):
        return False
    # fullmatch: the `$` of a pattern alone would let a line feed through.
    return wanted.pattern is None or re.fullmatch(wanted.pattern, value) is not None


def _came(node: Node, wanted: mi.Type, names: tuple[str, ...], private: bool) -> str:
    if names:
        return f"what {' and '.join(f'${{{name}}}' for name in names)} holds"
    match node.value:
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case None:
            return "nothing"
        case str():
            return "other text" if private else shown(node.value)
        case bool():
            kind, text = "", node.text
        case _:
            kind, text = "the number ", node.text
    if private:
        came = "a number" if kind else "true or false"
    else:
        came = kind + shown(text).strip("'")
    return f"{came} (put it in quotes)" if _fit(text, _text_of(wanted), lax=False) is not BAD else came


def _text_of(wanted: mi.Type) -> mi.Type:
    """Return the alternative of a type that takes text; a Literal of nothing where there is none."""
    for one in wanted.types if isinstance(wanted, mi.UnionType) else (wanted,):
        if isinstance(one, (mi.StrType, mi.LiteralType)):
            return one
    return mi.LiteralType(())


def _is_secret(wanted: mi.Type) -> bool:
    return isinstance(wanted, mi.UnionType) and any(
        isinstance(one, mi.CustomType) and one.cls is Secret for one in wanted.types
    )


def _may_be_empty(one: mi.Field) -> bool:
    """Tell whether a key without a value means its default: a section or list whose content is commented out."""
    return not one.required and isinstance(one.type, (mi.StructType, mi.VarTupleType, mi.DictType))
