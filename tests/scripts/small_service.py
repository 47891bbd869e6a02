"""What whoever deploys sees of `only1mcp`: `validate --config FILE`, and `start --config FILE` with its /health."""

import re
import socket
import sys
from pathlib import Path

text = Path(sys.argv[3]).read_text()
if not text.startswith("version"):
    sys.exit("no version")
if sys.argv[1] == "start":
    found = re.search(r"port: (\d+)", text)
    assert found is not None
    with socket.create_server(("127.0.0.1", int(found[1]))) as listener:
        while True:
            client, _ = listener.accept()
            with client:
                status = "200 OK" if client.recv(9999).startswith(b"GET /health ") else "404 Not Found"
                client.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
