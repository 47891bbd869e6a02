"""A small MCP client for the command line: one stateless request at a time to a running proxy."""

from __future__ import annotations

import http.client
import ssl
from typing import Any
from urllib.parse import urlsplit

import orjson

from only1mcp import __version__
from only1mcp.wire import mcp
from only1mcp.wire.mirror import encode_header
from only1mcp.wire.sse import SSEDecoder

DEFAULT_URL = "http://127.0.0.1:8080/mcp"
MAX_EVENT_BYTES = 64 << 20


class ClientError(Exception):
    """The proxy could not be reached (`cannot_connect`), or answered with an error."""

    def __init__(self, message: str, *, cannot_connect: bool = False) -> None:
        super().__init__(message)
        self.cannot_connect = cannot_connect


class ProxyClient:
    """Speaks 2026-07-28 to `url`; `token` is a JWT or an API key. `timeout_s` bounds each read."""

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = 120.0, insecure: bool = False) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ClientError(f"expected an http or https URL, got {url!r}")
        self._parts = parts
        self._token = token
        self._timeout_s = timeout_s
        self._context = ssl._create_unverified_context() if insecure else None  # noqa: S323 - asked for by a flag

    def get(self, path: str) -> tuple[int, Any]:
        """Return status and decoded JSON document of another path of the proxy, such as `/ready`."""
        status, _, body = self._request("GET", path, None, {})
        return status, _decoded(body)

    def call(self, method: str, params: dict[str, Any], name: str | None = None) -> dict[str, Any]:
        """Return the result of one MCP request; raise `ClientError` with the error's message."""
        meta = {
            mcp.META_VERSION: mcp.LATEST_STATELESS,
            mcp.META_CAPABILITIES: {},
            mcp.META_CLIENT_INFO: {"name": "only1mcp-cli", "version": __version__},
        }
        body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}})
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": mcp.LATEST_STATELESS,
            "Mcp-Method": method,
        }
        if name is not None:
            headers["Mcp-Name"] = encode_header(name).decode("ascii")
        status, content_type, answer = self._request("POST", self._parts.path or "/", body, headers)
        message = _last_event(answer) if content_type.startswith("text/event-stream") else _decoded(answer)
        if not isinstance(message, dict):
            raise ClientError(f"not an MCP answer (HTTP {status})")
        if "error" in message:
            error = message["error"]
            raise ClientError(f"{error.get('message')} (code {error.get('code')}, HTTP {status})")
        result = message.get("result")
        if not isinstance(result, dict):
            raise ClientError(f"not an MCP answer (HTTP {status})")
        return result

    def list(self, method: str) -> list[dict[str, Any]]:
        """Return all items of a list method, page by page."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            result = self.call(method, {} if cursor is None else {"cursor": cursor})
            items += result[mcp.LIST_METHODS[method]]
            cursor = result.get("nextCursor")
            if cursor is None:
                return items

    def _request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, str, bytes]:
        parts = self._parts
        if self._token:
            headers = {**headers, "Authorization": f"Bearer {self._token}"}
        assert parts.hostname is not None
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=self._timeout_s, context=self._context
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=self._timeout_s)
        try:
            connection.connect()
        except OSError as error:
            where = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
            raise ClientError(f"cannot connect to {where}: {error.strerror or error}", cannot_connect=True) from error
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.getheader("content-type", ""), response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ClientError(f"the connection broke: {error}") from error
        finally:
            connection.close()


def _decoded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ClientError(f"expected a JSON answer, got {body[:80]!r}") from error


def _last_event(body: bytes) -> Any:
    events = [event for event in SSEDecoder(MAX_EVENT_BYTES).receive_data(body) if event.data]
    if not events:
        raise ClientError("the stream ended without an answer")
    return _decoded(events[-1].data)
