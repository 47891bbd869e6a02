"""Resolves what `*_env` and `*_file` keys name into secrets: variables, files, the systemd credentials directory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from only1mcp.config.messages import Problems
from only1mcp.config.secret import Secret
from only1mcp.config.source import Node, directory_of

MAX_SECRET_BYTES = 1 << 16
# RFC 7518 section 3.2: "A key of the same size as the hash output or larger MUST be used", 256 bits for HS256.
MIN_JWT_SECRET_BYTES = 32
# Who guesses it can make ids in every principal's name.
MIN_STATE_KEY_BYTES = 32


class Credentials:
    """Hooks for the builder: each completes the fields of one Struct, or notes why it cannot."""

    def __init__(self, env: Mapping[str, str], problems: Problems) -> None:
        self._env = env
        self._problems = problems

    def jwt(self, values: dict[str, Any], node: Node) -> None:
        if values.get("jwks_url") is not None:
            return
        secret = self._secret(values, node, "secret", default_env="ONLY1MCP_JWT_SECRET")
        if secret is None:
            return
        length = len(secret.encode())
        if length < MIN_JWT_SECRET_BYTES:
            text = (
                f"expected a secret of {MIN_JWT_SECRET_BYTES} bytes or more (RFC 7518 section 3.2), got {length} bytes"
            )
            self._refuse(node, self._named(values, "secret") or "secret_env", text)
            return
        values["secret"] = Secret(secret)

    def backend_auth(self, values: dict[str, Any], node: Node) -> None:
        token = self._secret(values, node, "token")
        if token is None:
            return
        # The token becomes part of a header: RFC 6750 section 2.1 and RFC 9110 section 5.5 leave it visible ASCII.
        if not all("!" <= char <= "~" for char in token):
            self._refuse(node, self._named(values, "token"), "expected a token of visible ASCII characters")
            return
        values["token"] = Secret(token)

    def api_key(self, values: dict[str, Any], node: Node) -> None:
        digest = values.get("key_sha256")
        if digest is not None:
            if self._named(values, "key") is not None:
                self._refuse(node, "key_sha256", "expected only one of key_env, key_file and key_sha256")
            values["key_sha256"] = digest.lower()
            return
        if self._broken(node, "key_sha256"):
            return
        key = self._secret(values, node, "key", also=" or key_sha256")
        if key is not None:
            values["key_sha256"] = hashlib.sha256(key.encode()).hexdigest()

    def admin(self, values: dict[str, Any], node: Node) -> None:
        if self._named(values, "api_key") is None:
            return
        key = self._secret(values, node, "api_key")
        if key is not None:
            values["api_key"] = Secret(key)

    def state(self, values: dict[str, Any], node: Node) -> None:
        if self._named(values, "key") is None:
            return
        key = self._secret(values, node, "key")
        if key is None:
            return
        if len(key.encode()) < MIN_STATE_KEY_BYTES:
            text = f"expected a secret of {MIN_STATE_KEY_BYTES} bytes or more, got {len(key.encode())} bytes"
            self._refuse(node, self._named(values, "key"), text)
            return
        values["key"] = Secret(key)

    def _secret(
        self, values: dict[str, Any], node: Node, name: str, *, default_env: str | None = None, also: str = ""
    ) -> str | None:
        """Return the secret that the keys `<name>_env` or `<name>_file` name; None when a problem was noted."""
        env_name, file_name = values.get(f"{name}_env"), values.get(f"{name}_file")
        # A secret written into the file itself is refused as an unknown key.
        if self._broken(node, f"{name}_env") or self._broken(node, f"{name}_file") or node.get(name) is not None:
            return None
        if env_name is not None and file_name is not None:
            self._refuse(node, f"{name}_file", f"expected only one of {name}_env and {name}_file, got both")
            return None
        if file_name is not None:
            return self._from_file(node, f"{name}_file", file_name)
        if env_name is None and default_env is not None and default_env in self._env:
            env_name = default_env
        if env_name is None:
            hint = f" (or the environment variable {default_env})" if default_env is not None else ""
            self._refuse(node, "", f"expected {name}_env or {name}_file{also}{hint}")
            return None
        value = self._env.get(env_name)
        if not value:
            state = "not set" if value is None else "empty"
            self._refuse(node, f"{name}_env", f"the environment variable {env_name} is {state}")
            return None
        return value

    def _from_file(self, node: Node, key: str, name: str) -> str | None:
        at = node.nearest(key)
        path = directory_of(at.mark) / name
        credentials = self._env.get("CREDENTIALS_DIRECTORY")
        if credentials and not Path(name).is_absolute() and (Path(credentials) / name).is_file():
            path = Path(credentials) / name
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SECRET_BYTES + 1)
            text = data.decode()
        except OSError as error:
            self._refuse(node, key, f"{path} cannot be read: {(error.strerror or str(error)).lower()}")
            return None
        except ValueError:
            self._refuse(node, key, f"{path} is not UTF-8 text")
            return None
        # One line feed is the editor's; anything else belongs to the secret.
        text = text.removesuffix("\n").removesuffix("\r")
        if not text or len(data) > MAX_SECRET_BYTES:
            self._refuse(node, key, f"{path} is {'too long for a secret' if text else 'empty'}")
            return None
        return text

    def _broken(self, node: Node, key: str) -> bool:
        below = node.get(key)
        return below is not None and below.bad

    def _named(self, values: dict[str, Any], name: str) -> str | None:
        return next((key for key in (f"{name}_env", f"{name}_file") if values.get(key) is not None), None)

    def _refuse(self, node: Node, key: str | None, text: str) -> None:
        at = node.nearest(key) if key else node
        at.bad = True
        self._problems.add(at.mark, at.path, text)
