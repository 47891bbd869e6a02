"""The requests of a run as bytes: everything but the id is made once, since it is the same every time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from only1mcp import __version__
from only1mcp._fast import scan
from only1mcp.errors import ProtocolError
from only1mcp.loadgen.failure import LoadError
from only1mcp.loadgen.mix import Operation
from only1mcp.loadgen.plan import Plan
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire.eras import Caller, to_backend
from only1mcp.wire.http1_events import Headers
from only1mcp.wire.mcp import Era
from only1mcp.wire.mirror import encode_header, header_params, param_headers

# Ids count from here, so that all have as many digits.
FIRST_ID: Final = 10**14
CALLER: Final = Caller(client_info=b'{"name":"only1mcp-benchmark","version":"' + __version__.encode() + b'"}')


@dataclass(frozen=True, slots=True)
class Prepared:
    """One operation in one session: its headers, and the message before and after the id."""

    headers: Headers
    before_id: bytes
    after_id: bytes


def constant_headers(plan: Plan) -> Headers:
    """Return what every request carries, Host first."""
    headers = [(b"host", plan.target.authority), (b"user-agent", b"only1mcp-benchmark/" + __version__.encode())]
    if plan.token:
        headers.append((b"authorization", b"Bearer " + plan.token.encode()))
    return [
        *headers,
        (b"content-type", b"application/json"),
        (b"accept", b"application/json, text/event-stream"),
    ]


def mcp_headers(revision: str | None, session: str | None, method: str, name: str | None) -> Headers:
    """Return what the revision asks for beside that; nothing for `initialize`, which comes before both."""
    if revision is None or method == "initialize":
        return []
    headers: Headers = [(mcp.HEADER_VERSION, revision.encode())]
    if mcp.era_of(revision) is Era.HANDSHAKE:
        if session is not None:
            headers.append((mcp.HEADER_SESSION, session.encode()))
    elif method:
        headers.append((mcp.HEADER_METHOD, encode_header(method)))
        if name is not None:
            headers.append((mcp.HEADER_NAME, encode_header(name)))
    return headers


def prepare(
    plan: Plan, operation: Operation, revision: str, session: str | None, schemas: Mapping[str, Any]
) -> Prepared:
    """Return the operation ready for sending; `schemas` are the input schemas of tools that are known.

    Raise `LoadError` for params that MCP does not allow, and for methods that the era does not have.
    """
    era = mcp.era_of(revision)
    if era is Era.STATELESS and operation.method in mcp.HANDSHAKE_ONLY:
        raise LoadError(f"{operation.method} exists in the handshake era alone", hint="try --era handshake", usage=True)
    id = b"%d" % FIRST_ID
    message = jsonrpc.request(id, operation.method, operation.params)
    try:
        request = scan(message)
        if era is Era.STATELESS:
            sent = to_backend(request, id=id, client=Era.HANDSHAKE, backend=era, revision=revision, caller=CALLER)
            request = scan(sent.message)
    except ProtocolError as error:
        raise LoadError(f"{operation.label}: {error.message}", usage=True) from None
    assert request.id_span is not None
    headers = [*constant_headers(plan), *mcp_headers(revision, session, operation.method, operation.name)]
    if era is Era.STATELESS and operation.method == "tools/call":
        headers += _param_headers(operation, schemas)
    start, end = request.id_span
    return Prepared(headers, request.data[:start], request.data[end:])


def _param_headers(operation: Operation, schemas: Mapping[str, Any]) -> Headers:
    arguments = orjson.loads(operation.params).get("arguments")
    try:
        annotations = header_params(schemas.get(operation.name or "", {}))
    except ValueError:  # such a tool is offered to nobody; the target says so itself
        return []
    return list(param_headers(annotations, arguments if isinstance(arguments, dict) else {}))
