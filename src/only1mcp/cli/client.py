"""A small MCP client for the command line: one stateless request at a time to a running proxy."""

from __future__ import annotations

import http.client
import re
import ssl
from typing import Any

import orjson

from only1mcp import __version__
from only1mcp.backend.target import parse_target
from only1mcp.cli import CANNOT_CONNECT, DEFAULT_URL, FAILURE, USAGE
from only1mcp.errors import METHOD_NOT_FOUND, ProtocolError
from only1mcp.wire import mcp
from only1mcp.wire.mirror import encode_header, header_params, param_headers
from only1mcp.wire.sse import SSEDecoder

CONNECT_TIMEOUT_S = 10.0
# Whatever is at that address may talk without end.
MAX_ANSWER_BYTES = 64 << 20
MAX_PAGES = 1000


class ClientError(Exception):
    """No answer, or one that is an error: `exit_code` is the command's, `code` the JSON-RPC error's."""

    def __init__(
        self, message: str, *, exit_code: int = FAILURE, hint: str | None = None, code: int | None = None
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.hint = hint
        self.code = code


class ProxyClient:
    """Speaks 2026-07-28 to `url`; `token` is a JWT or an API key. `timeout_s` bounds the wait for each next byte."""

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = 120.0, insecure: bool = False) -> None:
        try:
            self._target = parse_target(url)
        except ValueError as error:
            raise ClientError(f"{url!r}: {error}", exit_code=USAGE, hint=f"a URL looks like {DEFAULT_URL}") from None
        if token and re.fullmatch(r"[\x21-\x7e]+", token) is None:
            raise ClientError("the token: expected visible ASCII characters, without spaces", exit_code=USAGE)
        self._token = token
        self._timeout_s = timeout_s
        self._context = ssl._create_unverified_context() if insecure else None  # noqa: S323 - asked for by a flag

    def get(self, path: str) -> tuple[int, Any]:
        """Return status and JSON document of another path of the proxy, such as `/ready`; None for what is no JSON."""
        status, _, body = self._request("GET", path, None, {})
        try:
            return status, orjson.loads(body)
        except orjson.JSONDecodeError:
            return status, None

    def call(
        self, method: str, params: dict[str, Any], name: str | None = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the result of one MCP request; raise `ClientError` with the error's message."""
        meta = {
            mcp.META_VERSION: mcp.LATEST_STATELESS,
            mcp.META_CAPABILITIES: {},
            mcp.META_CLIENT_INFO: {"name": "only1mcp-cli", "version": __version__},
        }
        try:
            body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}})
        except TypeError:
            raise ClientError("the tool's name: expected UTF-8", exit_code=USAGE) from None
        sent = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": mcp.LATEST_STATELESS,
            "Mcp-Method": method,
            **(headers or {}),
        }
        if name is not None:
            sent["Mcp-Name"] = encode_header(name).decode("ascii")
        status, location, answer = self._request("POST", self._target.path.decode("ascii"), body, sent)
        message = _message(answer)
        error = message.get("error") if isinstance(message, dict) else None
        if isinstance(error, dict):
            hint = "pass a JWT or an API key with --token or ONLY1MCP_TOKEN" if status == 401 else None
            code = error.get("code")
            raise ClientError(f"{error.get('message')} (code {code}, HTTP {status})", hint=hint, code=code)
        result = message.get("result") if isinstance(message, dict) else None
        if not isinstance(result, dict):
            what = f"HTTP {status}" + (f", redirects to {location}" if location else "")
            raise self._no_mcp(what)
        return result

    def call_tool(self, name: str, arguments: bytes) -> dict[str, Any]:
        """Call a tool with the JSON object `arguments`, whose numbers arrive as they are spelled."""
        params = {"name": name, "arguments": orjson.Fragment(arguments)}
        try:
            return self.call("tools/call", params, name)
        except ClientError as error:
            if error.code != mcp.HEADER_MISMATCH:
                raise
            # The tool wants arguments repeated in headers; its schema says which (MCP 2026-07-28 "Transports").
            schemas = [tool.get("inputSchema") for tool in self.list("tools/list") if tool.get("name") == name]
            try:
                wanted = param_headers(header_params(schemas[0] if schemas else {}), orjson.loads(arguments))
            except ValueError:
                raise error from None
            return self.call("tools/call", params, name, {key.decode(): value.decode() for key, value in wanted})

    def list(self, method: str) -> list[dict[str, Any]]:
        """Return all items of a list method, page by page; none where no backend offers such a list."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            try:
                result = self.call(method, {} if cursor is None else {"cursor": cursor})
            except ClientError as error:
                if error.code == METHOD_NOT_FOUND:
                    return []
                raise
            page = result.get(mcp.LIST_METHODS[method])
            if not isinstance(page, list) or not all(isinstance(item, dict) for item in page):
                raise self._no_mcp(f"{method} answered without a list of objects")
            items += page
            cursor = result.get("nextCursor")
            if cursor is None:
                return items
        raise self._no_mcp(f"{method} has no last page")

    def _request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, str, bytes]:
        """Return status, `Location` and body: of an event stream, the data of the event that answers."""
        if self._token:
            headers = {**headers, "Authorization": f"Bearer {self._token}"}
        connection = self._connect()
        try:
            assert connection.sock is not None
            connection.sock.settimeout(self._timeout_s)
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            is_stream = response.getheader("content-type", "").startswith("text/event-stream")
            answer = _answering_event(response) if is_stream else _whole(response)
            return response.status, response.getheader("location", ""), answer
        except TimeoutError as error:
            raise ClientError(f"no answer within {self._timeout_s:g} s") from error
        except http.client.HTTPException as error:
            scheme = "http" if self._target.tls else "https"
            raise ClientError(
                f"the answer is not HTTP: {error!r:.200}", hint=f"is it an {scheme} address, or another kind of server?"
            ) from error
        except OSError as error:
            raise ClientError(f"the connection broke: {error.strerror or error}") from error
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        target = self._target
        timeout_s = min(self._timeout_s, CONNECT_TIMEOUT_S)
        connection: http.client.HTTPConnection
        if target.tls:
            connection = http.client.HTTPSConnection(target.host, target.port, timeout=timeout_s, context=self._context)
        else:
            connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout_s)
        where = f"cannot connect to {target.host}:{target.port}"
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise ClientError(
                f"{where}: {error.verify_message}",
                exit_code=CANNOT_CONNECT,
                hint="the certificate cannot be trusted; --insecure does not look at it",
            ) from error
        except ssl.SSLError as error:
            raise ClientError(
                f"{where}: {error.strerror or error}", exit_code=CANNOT_CONNECT, hint="does it speak TLS? try http://"
            ) from error
        except OSError as error:
            connection.close()
            reason = (error.strerror or str(error)).lower()
            raise ClientError(
                f"{where}: {reason}",
                exit_code=CANNOT_CONNECT,
                hint="is the proxy running? start it with: only1mcp start",
            ) from error
        return connection

    def _no_mcp(self, what: str) -> ClientError:
        path = self._target.path.decode("ascii")
        return ClientError(f"not an MCP answer ({what})", hint=f"is {path} the path of the proxy's endpoint?")


def _whole(response: http.client.HTTPResponse) -> bytes:
    body = response.read(MAX_ANSWER_BYTES + 1)
    if len(body) > MAX_ANSWER_BYTES:
        raise ClientError(f"the answer is longer than {MAX_ANSWER_BYTES >> 20} MB")
    if response.length:  # a bounded `read` does not tell
        raise ClientError(f"the connection broke: {response.length} bytes of the answer are missing")
    return body


def _answering_event(response: http.client.HTTPResponse) -> bytes:
    """Return the first event with a result or an error, however long the stream goes on after it."""
    decoder = SSEDecoder(MAX_ANSWER_BYTES)
    try:
        while data := response.read1(65536):
            for event in decoder.receive_data(data):
                message = _message(event.data)
                if isinstance(message, dict) and ("result" in message or "error" in message):
                    return event.data
    except ProtocolError as error:
        raise ClientError(f"the event stream cannot be read: {error.message}") from error
    raise ClientError("the event stream ended without an answer")


def _message(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
