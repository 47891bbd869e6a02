"""`${NAME}`, `${NAME:-default}` and `$${` in the values of a configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from only1mcp.config.messages import shown

_MARKER = re.compile(r"\$\$\{|\$\{[^}]*\}?")
_INSIDE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Expanded:
    """`text` with its variables filled in. `names` are those that it took, `whole` says that one made up all of it."""

    text: str
    names: tuple[str, ...] = ()
    whole: bool = False


class VariableError(ValueError):
    """A substitution that cannot be made; `unset` when only the variable is missing."""

    def __init__(self, text: str, *, unset: bool = False) -> None:
        super().__init__(text)
        self.unset = unset


def expand(text: str, env: Mapping[str, str]) -> Expanded:
    """Return `text` with its variables filled in; what a variable holds is not expanded again."""
    if "${" not in text:
        return Expanded(text)
    pieces: list[str] = []
    names: list[str] = []
    end = 0
    for found in _MARKER.finditer(text):
        pieces.append(text[end : found.start()])
        end = found.end()
        if found[0] == "$${":
            pieces.append("${")
            continue
        inside = _INSIDE.fullmatch(found[0][2:-1]) if found[0].endswith("}") else None
        if inside is None or "${" in (inside[2] or ""):
            raise VariableError(
                f"expected ${{NAME}} or ${{NAME:-default}}, got {shown(found[0])} (a literal ${{ is written $${{)"
            )
        name, default = inside[1], inside[2]
        # As in a shell: with `:-` an empty variable counts as unset.
        value = (env.get(name) or default) if default is not None else env.get(name)
        if value is None:
            raise VariableError(f"the environment variable {name} is not set and has no default", unset=True)
        names.append(name)
        pieces.append(value)
    pieces.append(text[end:])
    return Expanded("".join(pieces), tuple(names), whole=len(names) == 1 and not any(pieces[:1] + pieces[2:]))
