"""The backend of the benchmark on standard input and output: the same answers, by blocking reads and writes.

Run as `python -m benches.loopback.stdio_backend`, with the options of benches/loopback/backend.py.
"""

from __future__ import annotations

import os

import orjson
from benches.loopback.backend import Answers, parse, tool_names

READ_OCTETS = 256 * 1024


def serve() -> None:
    """Answer whole lines until the input ends; what came together is answered together."""
    options = parse()
    answers = Answers(options.era, options.octets, tool_names(0, options.tools))
    rest = b""
    while data := os.read(0, READ_OCTETS):
        *lines, rest = (rest + data).split(b"\n")
        found = (answers.maybe_answer(line, orjson.loads(line)) for line in lines if line)
        out = memoryview(b"".join(answer + b"\n" for answer in found if answer is not None))
        while out:
            out = out[os.write(1, out) :]


if __name__ == "__main__":
    serve()
