"""Finds the configuration and makes one frozen value of it.

What comes first in this list wins:

    flags         the command line's
    environment   ONLY1MCP_HOST, _PORT, _LOG_LEVEL, _METRICS_PORT, _TLS_CERT, _TLS_KEY, _JWT_SECRET, _ADMIN_API_KEY
    profile       the part of `profiles` that ONLY1MCP_ENV names: mappings are merged, everything else is replaced
    file          --config, ONLY1MCP_CONFIG_PATH, ./only1mcp.yaml, ~/.config/only1mcp/config.yaml,
                  /etc/only1mcp/config.yaml; the *.yaml of `servers_dir` by name, appended to `servers`
    defaults      those of the schema

A relative file name in a configuration file is relative to that file's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from only1mcp.config.build import Builder
from only1mcp.config.credentials import Credentials
from only1mcp.config.messages import Mark, Problems, join_path, listed, printable, shown
from only1mcp.config.notices import notices
from only1mcp.config.rules import Rules
from only1mcp.config.schema import JWT, TLS, Admin, ApiKey, BackendAuth, BackendConfig, Config, Output, State
from only1mcp.config.source import Node, directory_of, overlay, parse, read_file, tree
from only1mcp.config.variables import VariableError, expand
from only1mcp.errors import ConfigError

SYSTEM_FOLDER = Path("/etc/only1mcp")

_VARIABLES = {
    "ONLY1MCP_HOST": "proxy.host",
    "ONLY1MCP_PORT": "proxy.port",
    "ONLY1MCP_LOG_LEVEL": "logging.level",
    "ONLY1MCP_METRICS_PORT": "metrics.port",
}
_TLS_VARIABLES = {"ONLY1MCP_TLS_CERT": "proxy.tls.cert", "ONLY1MCP_TLS_KEY": "proxy.tls.key"}
_SECRET_VARIABLES = {"ONLY1MCP_JWT_SECRET": "auth.jwt.secret", "ONLY1MCP_ADMIN_API_KEY": "admin.api_key"}


class Loaded(msgspec.Struct, frozen=True):
    """A configuration and where it came from.

    `files` are all files read, `source` the first of them; `notices` the keys without effect; `from_env` the paths of
    values with something from the environment in them, which `show` may have to hide.
    """

    config: Config
    source: Path | None
    notices: list[str]
    profile: str | None = None
    files: tuple[Path, ...] = ()
    from_env: frozenset[str] = frozenset()


def load(
    path: Path | None,
    env: Mapping[str, str],
    overrides: Mapping[str, Any],
    *,
    system: Path = SYSTEM_FOLDER,
    text: bytes | None = None,
) -> Loaded:
    """Return the configuration in force; raise `ConfigError` with every problem found.

    `overrides` are flags: dotted paths and their values, None meaning not given. `system` is the machine's folder.
    `text` is read in place of any file.
    """
    problems = Problems()
    source: Path | None = None
    if text is None:
        source, root = _find(path, env, problems, system)
    else:
        root = parse(text, "configuration", problems)
    if root is not None and root.value is None:
        problems.add(root.mark, "", 'the file is empty; expected at least version: "1.0"')
    elif root is not None and not isinstance(root.value, dict):
        what = "a list" if isinstance(root.value, list) else shown(root.text)
        problems.add(root.mark, "", f"expected a mapping of version, proxy, servers and others, got {what}")
    if root is None or (problems and not isinstance(root.value, dict)):
        raise problems.error()
    assert isinstance(root.value, dict)

    root.value["version"] = _version(root, problems)
    # What profile, environment or flags cover would not be looked at otherwise.
    Builder(problems, env, lenient=True).build(Config, root)
    profile, laid = _profile(root, env, problems)
    chosen = root if laid is None else overlay(root, laid)
    warnings: list[str] = []
    merged = _with_environment(chosen, env, problems, warnings)
    merged = overlay(merged, tree(Mark("command line"), {k: v for k, v in overrides.items() if v is not None}))
    files = [] if source is None else [source]
    files += _add_servers(merged, env, problems, source, system)

    credentials = Credentials(env, problems)
    hooks: dict[type, Callable[[dict[str, Any], Node], None]] = {
        JWT: credentials.jwt,
        BackendAuth: credentials.backend_auth,
        ApiKey: credentials.api_key,
        Admin: credentials.admin,
        State: credentials.state,
        TLS: _absolute("cert", "key", "client_ca"),
        Output: _absolute("path"),
        BackendConfig: _absolute("cwd"),
        Config: _absolute("servers_dir"),
    }
    builder = Builder(problems, env, hooks=hooks)
    config: Config = builder.build(Config, merged)
    Rules(merged, builder, problems).check(config)
    if problems:
        raise problems.error()
    servers = [node for backend in config.servers if (node := builder.node_of(backend)) is not None]
    return Loaded(
        msgspec.structs.replace(config, profiles={}),
        source,
        warnings + notices(merged, config, servers),
        profile,
        tuple(files),
        frozenset(builder.expanded),
    )


def _find(path: Path | None, env: Mapping[str, str], problems: Problems, system: Path) -> tuple[Path, Node | None]:
    named = path if path is not None else Path(name) if (name := env.get("ONLY1MCP_CONFIG_PATH")) else None
    if named is not None:
        try:
            return named, read_file(named, problems)
        except FileNotFoundError:
            origin = "" if path is not None else " (named by ONLY1MCP_CONFIG_PATH)"
            text = f"{named}: no such file{origin}; `only1mcp config init {named}` writes one"
            raise ConfigError([printable(text)]) from None
    places = [Path("only1mcp.yaml"), system / "config.yaml"]
    if home := env.get("HOME") or env.get("USERPROFILE"):
        places.insert(1, Path(home) / ".config" / "only1mcp" / "config.yaml")
    for place in places:
        try:
            return place, read_file(place, problems)
        except FileNotFoundError:
            continue
    tried = listed([f"./{places[0]}", *map(str, places[1:])], "and")
    raise ConfigError(
        [printable(f"no configuration file found; looked for {tried}; `only1mcp config init` writes one")]
    )


def _version(root: Node, problems: Problems) -> Node:
    """Check the version by itself and return a good one, so that the rest of the file can be checked, too."""
    given = root.get("version")
    good = Node(root.mark, "version", "1.0", text="1.0")
    if given is None:
        problems.add(root.mark, "", 'the key version is missing; expected version: "1.0"')
    elif given.value != "1.0":
        number = isinstance(given.value, (int, float)) and not isinstance(given.value, bool)
        if given.text.lower().removeprefix("v").split(".")[0] == "0":
            problems.add(
                given.mark,
                "version",
                f'expected "1.0", got {shown(given.text)}: files of version 0 have to be rewritten by hand, '
                "`only1mcp config init` writes an example",
            )
            raise problems.error()
        came = "nothing" if given.value is None else shown(given.text) if given.text else "no text"
        hint = " without quotes" if number and given.value == 1 else ""
        problems.add(given.mark, "version", f'expected "1.0", got {came}{hint}')
    else:
        return given
    return good


def _profile(root: Node, env: Mapping[str, str], problems: Problems) -> tuple[str | None, Node | None]:
    """Check every profile, in force or not, and return the name and tree of the one that is."""
    section = root.get("profiles")
    if section is None or not isinstance(section.value, dict) or not section.value:
        return None, None
    for node in section.value.values():
        for key in ("version", "profiles"):
            if node.get(key) is not None:
                problems.add(node.keys[key], join_path(node.path, key), "this key cannot be part of a profile")
                node.nearest(key).bad = True
        Builder(problems, env, lenient=True).build(Config, node, partial=True)
    name = env.get("ONLY1MCP_ENV", "")
    if not name:
        return None, None
    if name not in section.value:
        known = listed(map(shown, section.value))
        problems.add(section.mark, "profiles", f"ONLY1MCP_ENV is {shown(name)}, expected {known}")
        return None, None
    return name, section.value[name]


def _with_environment(root: Node, env: Mapping[str, str], problems: Problems, warnings: list[str]) -> Node:
    for variable, dotted in _VARIABLES.items():
        # An empty one is what compose files and unit files leave behind for "not set".
        if env.get(variable):
            root = overlay(root, tree(Mark(variable), {dotted: env[variable]}))

    enabled = root.get("proxy", "tls", "enabled")
    for variable, dotted in _TLS_VARIABLES.items():
        if variable in env:
            if not env[variable]:
                problems.add(Mark(variable), dotted, "expected the name of a PEM file, got nothing")
            elif enabled is not None and enabled.value is False:
                warnings.append(f"{variable}: {dotted}: has no effect: proxy.tls.enabled is false")
            root = overlay(root, tree(Mark(variable), {dotted: env[variable]}))
    if all(env.get(variable) for variable in _TLS_VARIABLES) and (enabled is None or enabled.value is None):
        root = overlay(root, tree(Mark("ONLY1MCP_TLS_CERT"), {"proxy.tls.enabled": True}))

    for variable, dotted in _SECRET_VARIABLES.items():
        # Here an empty one counts: it must not turn authentication off.
        if variable in env:
            section, _, name = dotted.rpartition(".")
            for key in (f"{name}_env", f"{name}_file"):
                given = root.get(*section.split("."), key)
                if given is not None and given.value not in (None, variable):
                    warnings.append(f"{given.path}: has no effect: the environment variable {variable} comes first")
            values = {f"{dotted}_env": variable, f"{dotted}_file": None}
            root = overlay(root, tree(Mark(variable), values))
    return root


def _add_servers(
    root: Node, env: Mapping[str, str], problems: Problems, source: Path | None, system: Path
) -> list[Path]:
    """Append the backends of `servers_dir` to the tree; return the files that they came from."""
    given = root.get("servers_dir")
    mark, path = Mark(str(system / "servers")), ""
    if given is not None and given.value is not None:
        try:
            name = expand(given.value, env).text if isinstance(given.value, str) else ""
        except VariableError:
            name = ""
        if not name:
            return []
        mark, path = given.mark, given.path
        folder = directory_of(mark) / name
    elif source and source.absolute().parent == system.absolute() and (system / "servers").is_dir():
        folder = system / "servers"
    else:
        return []
    try:
        found = sorted(one for one in folder.iterdir() if one.suffix == ".yaml" and not one.name.startswith("."))
    except OSError as error:
        problems.add(mark, path, f"{folder} cannot be read: {(error.strerror or str(error)).lower()}")
        return []
    assert isinstance(root.value, dict)
    servers = root.get("servers") or Node(root.mark, "servers", [])
    items = [] if servers.value is None else servers.value
    added: list[Node] = []
    for file in found:
        try:
            node = read_file(file, problems)
        except FileNotFoundError:
            problems.add(Mark(str(file)), "", "no such file (a broken link?)")
            continue
        if node is None:
            continue
        if isinstance(node.value, list):
            added += node.value
        else:
            added.append(node)
    if isinstance(items, list):
        root.value["servers"] = Node(servers.mark, servers.path, items + added, keys=servers.keys)
    return found


def _absolute(*names: str) -> Callable[[dict[str, Any], Node], None]:
    """Return a hook that makes these file names independent of the working folder."""

    def resolve(values: dict[str, Any], node: Node) -> None:
        for name in names:
            if values.get(name) is not None:
                values[name] = str(directory_of(node.nearest(name).mark) / values[name])

    return resolve
