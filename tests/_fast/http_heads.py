"""Heads as MCP clients and servers write them.

Those in captured_heads.json are as SDKs of several versions, HTTP libraries and servers sent them to one another
(scripts/record_heads.py wrote them down); those below are in the words of their sources where not captured.
"""

from __future__ import annotations

import json
from pathlib import Path

_SESSION = "mcp-session-id: a46ec078-b62b-4523-8030-0bcbf72ae52d"


def _head(text: str) -> bytes:
    return "".join(f"{line.strip()}\r\n" for line in text.strip().splitlines()).encode() + b"\r\n"


_HTTPX = """Host: 127.0.0.1:8080
    Accept-Encoding: gzip, deflate
    Connection: keep-alive
    User-Agent: python-httpx/0.28.1"""
_UNDICI = """host: localhost:8080
    connection: keep-alive"""
_FETCH = """accept-language: *
    sec-fetch-mode: cors
    user-agent: node
    accept-encoding: gzip, deflate"""

REQUESTS = {
    "python sdk 1.30, initialize": f"""POST /mcp HTTP/1.1
    {_HTTPX}
    accept: application/json, text/event-stream
    content-type: application/json
    Content-Length: 152""",
    "python sdk 1.30, call": f"""POST /mcp HTTP/1.1
    {_HTTPX}
    accept: application/json, text/event-stream
    content-type: application/json
    {_SESSION}
    mcp-protocol-version: 2025-11-25
    Content-Length: 54""",
    "python sdk 1.30, stream": f"""GET /mcp HTTP/1.1
    {_HTTPX}
    Cache-Control: no-store
    accept: application/json, text/event-stream
    content-type: application/json
    {_SESSION}
    mcp-protocol-version: 2025-11-25""",
    "python sdk 1.30, end": f"""DELETE /mcp HTTP/1.1
    {_HTTPX}
    accept: application/json, text/event-stream
    content-type: application/json
    {_SESSION}
    mcp-protocol-version: 2025-11-25""",
    "python sdk 2.3, discover": """POST /mcp HTTP/1.1
    Host: 127.0.0.1:8080
    Accept-Encoding: gzip, deflate
    Connection: keep-alive
    User-Agent: python-httpx2/2.16.2
    accept: application/json, text/event-stream
    content-type: application/json
    mcp-protocol-version: 2026-07-28
    mcp-method: server/discover
    Content-Length: 245""",
    "python sdk 2.3, call with a token": """POST /mcp HTTP/1.1
    Host: gateway.example:8443
    Accept-Encoding: gzip, deflate
    Connection: keep-alive
    User-Agent: python-httpx2/2.16.2
    authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl
    accept: application/json, text/event-stream
    content-type: application/json
    mcp-protocol-version: 2026-07-28
    mcp-method: tools/call
    mcp-name: =?base64?Y2Fmw6k=?=
    mcp-param-region: eu-west-1
    Content-Length: 245""",
    "python sdk, legacy message": f"""POST /messages/?session_id=4f2a9c4b3d1e4a0f8b7c6d5e4f3a2b1c HTTP/1.1
    {_HTTPX}
    Accept: */*
    Content-Length: 46
    Content-Type: application/json""",
    "typescript sdk, initialize": f"""POST /mcp HTTP/1.1
    {_UNDICI}
    content-type: application/json
    accept: application/json, text/event-stream
    {_FETCH}
    content-length: 146""",
    "typescript sdk, call": f"""POST /mcp HTTP/1.1
    {_UNDICI}
    {_SESSION}
    mcp-protocol-version: 2025-11-25
    content-type: application/json
    accept: application/json, text/event-stream
    {_FETCH}
    content-length: 54""",
    "typescript sdk, stream": f"""GET /mcp HTTP/1.1
    {_UNDICI}
    {_SESSION}
    mcp-protocol-version: 2025-11-25
    Accept: text/event-stream
    {_FETCH}""",
    "typescript sdk, end": f"""DELETE /mcp HTTP/1.1
    {_UNDICI}
    {_SESSION}
    mcp-protocol-version: 2025-11-25
    accept: */*
    {_FETCH}""",
    "curl": """POST /mcp HTTP/1.1
    Host: [::1]:8080
    User-Agent: curl/7.88.1
    content-type: application/json
    accept: application/json, text/event-stream
    Content-Length: 40""",
    "java": """POST /mcp HTTP/1.1
    Content-Length: 40
    Host: 127.0.0.1:8080
    User-Agent: Java-http-client/17.0.15
    Accept: application/json, text/event-stream
    Content-Type: application/json""",
    "go": """POST /mcp HTTP/1.1
    Host: 127.0.0.1:8080
    User-Agent: Go-http-client/1.1
    Content-Length: 40
    Accept: application/json, text/event-stream
    Content-Type: application/json
    Accept-Encoding: gzip""",
    "dotnet": """POST /mcp HTTP/1.1
    Host: localhost:8080
    Accept: application/json, text/event-stream
    Transfer-Encoding: chunked
    Content-Type: application/json; charset=utf-8""",
    "rust": f"""POST /mcp HTTP/1.1
    accept: text/event-stream, application/json
    {_SESSION}
    content-type: application/json
    host: localhost:8080
    content-length: 54""",
    "browser": """OPTIONS /mcp HTTP/1.1
    Host: localhost:8080
    Connection: keep-alive
    Accept: */*
    Access-Control-Request-Method: POST
    Access-Control-Request-Headers: content-type,mcp-protocol-version
    Origin: http://localhost:6274
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36
    Sec-Fetch-Mode: cors
    Sec-Fetch-Site: same-site
    Sec-Fetch-Dest: empty
    Referer: http://localhost:6274/
    Accept-Encoding: gzip, deflate, br, zstd
    Accept-Language: en-US,en;q=0.9""",
    "wrk": """GET /mcp HTTP/1.1
    Host: 127.0.0.1:8080""",
    "behind nginx": """POST /mcp HTTP/1.1
    Host: gateway.example
    X-Real-IP: 192.0.2.7
    X-Forwarded-For: 192.0.2.7
    X-Forwarded-Proto: https
    Content-Length: 54
    user-agent: node
    content-type: application/json
    accept: application/json, text/event-stream""",
    "probe": """HEAD /health HTTP/1.1
    Host: 10.0.0.7:8080
    User-Agent: kube-probe/1.33
    Accept: */*
    Connection: close""",
}
_EXPRESS = """X-Powered-By: Express
    Access-Control-Allow-Origin: *
    Access-Control-Expose-Headers: mcp-session-id,last-event-id,mcp-protocol-version"""
_NODE = """Date: Sun, 22 Nov 2026 18:04:05 GMT
    Connection: keep-alive
    Keep-Alive: timeout=5"""
_UVICORN = """date: Sun, 22 Nov 2026 18:04:06 GMT
    server: uvicorn"""

RESPONSES = {
    "node, stream": f"""HTTP/1.1 200 OK
    {_EXPRESS}
    cache-control: no-cache, no-transform
    connection: keep-alive
    content-type: text/event-stream
    {_SESSION}
    x-accel-buffering: no
    Date: Sun, 22 Nov 2026 18:04:04 GMT
    Transfer-Encoding: chunked""",
    "node, accepted": f"""HTTP/1.1 202 Accepted
    {_EXPRESS}
    {_NODE}
    Transfer-Encoding: chunked""",
    "node, refused": f"""HTTP/1.1 400 Bad Request
    {_EXPRESS}
    content-type: application/json
    content-length: 99
    {_NODE}""",
    "node, express": f"""HTTP/1.1 200 OK
    X-Powered-By: Express
    Content-Type: application/json; charset=utf-8
    Content-Length: 312
    ETag: W/"138-9Qv0aGfbmC1tKZcOSkZ1nYd3xxs"
    {_NODE}""",
    "uvicorn, stream": f"""HTTP/1.1 200 OK
    {_UVICORN}
    cache-control: no-cache, no-transform
    connection: keep-alive
    content-type: text/event-stream
    {_SESSION}
    x-accel-buffering: no
    Transfer-Encoding: chunked""",
    "uvicorn, json": f"""HTTP/1.1 200 OK
    {_UVICORN}
    content-type: application/json
    {_SESSION}
    content-length: 260""",
    "uvicorn, accepted": f"""HTTP/1.1 202 Accepted
    {_UVICORN}
    content-type: application/json
    content-length: 0""",
    "uvicorn, not acceptable": f"""HTTP/1.1 406 Not Acceptable
    {_UVICORN}
    content-type: application/json
    content-length: 126""",
    "go": """HTTP/1.1 200 OK
    Cache-Control: no-cache, no-transform
    Content-Type: application/json
    Date: Sun, 22 Nov 2026 18:04:06 GMT
    Content-Length: 62""",
    "kestrel": """HTTP/1.1 200 OK
    Content-Type: text/event-stream
    Date: Sun, 22 Nov 2026 18:04:06 GMT
    Server: Kestrel
    Cache-Control: no-cache,no-store
    Content-Encoding: identity
    Transfer-Encoding: chunked""",
    "hyper": f"""HTTP/1.1 200 OK
    content-type: text/event-stream
    cache-control: no-cache
    {_SESSION}
    transfer-encoding: chunked
    date: Sun, 22 Nov 2026 18:04:06 GMT""",
    "nginx in front": """HTTP/1.1 200 OK
    Server: nginx/1.22.1
    Date: Sun, 22 Nov 2026 18:04:06 GMT
    Content-Type: application/json
    Content-Length: 260
    Connection: keep-alive
    Strict-Transport-Security: max-age=63072000""",
    "bad gateway": """HTTP/1.1 502 Bad Gateway
    Server: nginx/1.22.1
    Date: Sun, 22 Nov 2026 18:04:06 GMT
    Content-Type: text/html
    Content-Length: 157
    Connection: close""",
}
REQUEST_HEADS = {name: _head(text) for name, text in REQUESTS.items()}
RESPONSE_HEADS = {name: _head(text) for name, text in RESPONSES.items()}

_CAPTURED = json.loads(Path(__file__).with_name("captured_heads.json").read_text())
# (role, what sent it and its place in the file, head).
CAPTURED: list[tuple[str, str, bytes]] = [
    (kept["role"], f"{kept['label']} {number}", kept["head"].encode("latin-1")) for number, kept in enumerate(_CAPTURED)
]
# Java's client asks for HTTP/2 with its request unless it is told not to: the one thing here that is left to h11.
UPGRADES = [head for _, _, head in CAPTURED if b"\r\nUpgrade: h2c\r\n" in head]
