"""The configuration for people and tools to see: redacted values, a JSON Schema, a commented example."""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import msgspec

from only1mcp.config.messages import join_path
from only1mcp.config.schema import HTTP_KEYS, STDIO_KEYS, BackendConfig, Config
from only1mcp.config.secret import Secret

HIDDEN = "***"
# Values that come from the environment are hidden where a credential is likely: `--token ${TOKEN}`, `?key=${KEY}`.
_LIKELY_SECRET = re.compile(r"servers\[[0-9]+\]\.(args\[[0-9]+\]|url|health_check_url|command)|state\.url")
_ALWAYS_HIDDEN = re.compile(r"servers\[[0-9]+\]\.(env|headers)[.\[].*|auth\.api_keys\[[0-9]+\]\.key_sha256")
# What a value with `${NAME}` in it looks like before the environment is known.
_VARIABLE = {"type": "string", "pattern": r"\$\{"}


def redacted(config: Config, from_env: Collection[str] = ()) -> dict[str, Any]:
    """Return the configuration as plain values without any secret; `from_env` as in `Loaded`."""
    shown: dict[str, Any] = _plain(config, "", from_env)
    return shown


def json_schema() -> dict[str, Any]:
    """Return a JSON Schema (2020-12) of what a file may hold; of the rules between keys it has the transports' only."""
    schema = msgspec.json.schema(Config, schema_hook=lambda _: {"const": HIDDEN})
    definitions: dict[str, Any] = schema["$defs"]
    for name, definition in definitions.items():
        required = definition.get("required", [])
        properties = {
            key: _accepting(value, key in required)
            for key, value in definition["properties"].items()
            if {"const": HIDDEN} not in value.get("anyOf", ())
        }
        definitions[name] = definition | {"properties": properties}
    backend, config = definitions["BackendConfig"], definitions["Config"]
    config["properties"]["version"] = {"const": "1.0"}
    backend["allOf"] = [_needs("stdio", "command"), _needs("http", "url"), _needs("sse", "url")]
    profile = {key: value for key, value in config["properties"].items() if key not in ("version", "profiles")}
    definitions["Profile"] = {
        "title": "Profile",
        "description": "A part of the configuration, laid over the rest when ONLY1MCP_ENV names it.",
        "type": "object",
        "properties": profile,
        "additionalProperties": False,
    }
    config["properties"]["profiles"] = {
        "anyOf": [{"type": "object", "additionalProperties": {"$ref": "#/$defs/Profile"}}, {"type": "null"}]
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def example() -> str:
    """Return the commented file that `config init` writes."""
    return (files("only1mcp.config") / "example.yaml").read_text(encoding="utf-8")


def _plain(value: Any, path: str, from_env: Collection[str]) -> Any:
    if isinstance(value, Secret) or (value is not None and _ALWAYS_HIDDEN.fullmatch(path)):
        return HIDDEN
    if path in from_env and _LIKELY_SECRET.fullmatch(path):
        return HIDDEN
    if isinstance(value, msgspec.Struct):
        unused: tuple[str, ...] = ()
        if isinstance(value, BackendConfig):
            unused = HTTP_KEYS if value.transport == "stdio" else STDIO_KEYS
        return {
            name: _plain(below, join_path(path, name), from_env)
            for name in value.__struct_fields__
            if name not in unused and (below := getattr(value, name)) is not None
        }
    if isinstance(value, dict):
        return {key: _plain(below, join_path(path, key), from_env) for key, below in value.items()}
    if isinstance(value, tuple):
        return [_plain(below, join_path(path, i), from_env) for i, below in enumerate(value)]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if path == "state.url":
        parts = urlsplit(value)
        if parts.password is not None:
            user = parts.username or ""
            return parts._replace(netloc=f"{user}:{HIDDEN}@{parts.netloc.rpartition('@')[2]}").geturl()
    return value


def _accepting(value: dict[str, Any], required: bool) -> dict[str, Any]:
    """Return a property's schema widened by what the loader takes: `${NAME}` in any scalar, nothing for a section."""
    value = dict(value)
    default = value.pop("default", None)
    choices = [_with_variables(one) for one in value.pop("anyOf", None) or [value]]
    optional = {"type": "null"} in choices
    if optional and any(one.get("type") == "string" for one in choices):
        choices.append({"const": ""})
    if any("pattern" in one or "minLength" in one or "enum" in one or _is_number(one) for one in choices):
        choices.append(_VARIABLE)
    section = any("$ref" in one or one.get("type") in ("object", "array") for one in choices)
    if section and not required and not optional:
        choices.append({"type": "null"})
    widened: dict[str, Any] = choices[0] if len(choices) == 1 else {"anyOf": choices}
    if isinstance(default, (str, int, float)):
        widened["default"] = default
    return widened


def _with_variables(value: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a list or mapping whose items may hold variables, any other as it is."""
    value = dict(value)
    for key in ("items", "additionalProperties"):
        below = value.get(key)
        if isinstance(below, dict) and ("pattern" in below or "minLength" in below):
            value[key] = {"anyOf": [below, _VARIABLE]}
    return value


def _is_number(value: dict[str, Any]) -> bool:
    return value.get("type") in ("integer", "number", "boolean")


def _needs(transport: str, key: str) -> dict[str, Any]:
    return {
        "if": {"properties": {"transport": {"const": transport}}, "required": ["transport"]},
        "then": {"required": [key]},
    }
