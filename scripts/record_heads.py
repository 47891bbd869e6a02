"""Records the HTTP/1.1 heads that a real client and a real server send each other: a relay between the two.

    python -m scripts.record_heads LISTEN_PORT SERVER_PORT LABEL FILE

appends each head that differs from those before in more than numbers to FILE (JSON lines: label, role, head), until
interrupted. tests/_fast/captured_heads.json was made this way.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
from pathlib import Path

_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*([0-9]+)")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding:[ \t]*chunked")
_NUMBERS = re.compile(rb"[0-9a-fA-F]{4,}|[0-9]+")
_WITHOUT_BODY = re.compile(rb"HTTP/1.1 (?:1..|204|304) ")


def heads(data: bytes) -> list[bytes]:
    """Return every head in one direction of a connection; what ends with the connection ends the search."""
    found = []
    at = 0
    while (end := data.find(b"\r\n\r\n", at)) >= 0:
        head = data[at : end + 4]
        found.append(head)
        at = end + 4
        if _WITHOUT_BODY.match(head):
            continue
        if _CHUNKED.search(head):
            while (line := data.find(b"\r\n", at)) >= 0 and (size := int(data[at:line].split(b";")[0], 16)):
                at = line + 2 + size + 2
            if line < 0:
                break
            at = line + 4
        elif length := _LENGTH.search(head):
            at += int(length[1])
        elif head.startswith(b"HTTP/"):
            break
    return found


class Relay:
    """Copies octets both ways, and writes down the heads among them when a connection has ended."""

    def __init__(self, server_port: int, label: str, file: Path) -> None:
        self.server_port = server_port
        self.label = label
        self.file = file
        lines = file.read_text().splitlines() if file.exists() else []
        self.seen = {(kept["role"], self.shape(kept["head"].encode("latin-1"))) for kept in map(json.loads, lines)}

    @staticmethod
    def shape(head: bytes) -> bytes:
        return _NUMBERS.sub(b"#", head)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.server_port)
        except OSError:
            writer.close()
            return
        there, back = bytearray(), bytearray()
        try:
            await asyncio.gather(
                self.copy(reader, server_writer, there), self.copy(server_reader, writer, back), return_exceptions=True
            )
        finally:
            self.write_down("request", bytes(there))
            self.write_down("response", bytes(back))

    async def copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                kept += data
                writer.write(data)
                await writer.drain()
        writer.close()

    def write_down(self, role: str, data: bytes) -> None:
        with self.file.open("a") as file:
            for head in heads(data):
                key = (role, self.shape(head))
                if key not in self.seen:
                    self.seen.add(key)
                    file.write(json.dumps({"label": self.label, "role": role, "head": head.decode("latin-1")}) + "\n")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("listen_port", type=int)
    parser.add_argument("server_port", type=int)
    parser.add_argument("label")
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    relay = Relay(options.server_port, options.label, options.file)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", options.listen_port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
