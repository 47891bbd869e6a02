"""`only1mcp benchmark`: load a proxy, or any MCP server over HTTP, and say how it did."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, NoReturn, Self

import click

from only1mcp.backend.target import parse_target
from only1mcp.cli import CANNOT_CONNECT, DEFAULT_URL, FAILURE, USAGE
from only1mcp.cli.amounts import errors, number, seconds
from only1mcp.cli.output import print_error, print_json, printable
from only1mcp.loadgen.engine import Progress, run, run_loop
from only1mcp.loadgen.failure import LoadError
from only1mcp.loadgen.figures import Gates, figures
from only1mcp.loadgen.html import render_html
from only1mcp.loadgen.meet import Ground
from only1mcp.loadgen.mix import DEFAULT_MIX, MixError, Operation, layout, load_mix, parse_method, parse_tool
from only1mcp.loadgen.plan import Plan
from only1mcp.loadgen.text import render

MAX_CONNECTIONS: Final = 50_000
MAX_RATE: Final = 1_000_000.0
MAX_REQUESTS: Final = 10**12
DEFAULT_DURATION_S: Final = 10.0
DEFAULT_WARMUP_S: Final = 1.0
# Descriptors for everything that is not a connection of the load.
SPARE_DESCRIPTORS: Final = 64

_BAR_STEPS: Final = 1000


def parsed(parse: Callable[[str], Operation]) -> Callable[[str], Operation]:
    """Return what reads an operation of the mix."""

    def read(text: str) -> Operation:
        try:
            return parse(text)
        except MixError as error:
            raise click.BadParameter(printable(str(error))) from None

    return read


_PATH: Final = click.Path(path_type=Path)
_OPTIONS: Final = (
    click.option("--url", "url_option", envvar="ONLY1MCP_URL", help=f"The same [env: ONLY1MCP_URL; {DEFAULT_URL}]."),
    click.option("--token", envvar="ONLY1MCP_TOKEN", help="JWT or API key [env: ONLY1MCP_TOKEN]."),
    click.option("--insecure", is_flag=True, help="Do not verify the target's TLS certificate."),
    click.option(
        "-c",
        "--connections",
        type=click.IntRange(1, MAX_CONNECTIONS),
        default=10,
        show_default=True,
        help="Connections, each with one request at a time.",
    ),
    click.option(
        "-r",
        "--rate",
        type=number(0, MAX_RATE, positive=True),
        metavar="NUMBER",
        help="Requests a second, whatever the answers do [otherwise each connection sends when it has its answer].",
    ),
    click.option(
        "-d",
        "--duration",
        type=seconds(positive=True),
        metavar="TIME",
        help="Measure for so long [10s, unless -n is given].",
    ),
    click.option("-n", "--requests", type=click.IntRange(1, MAX_REQUESTS), help="Measure so many requests."),
    click.option(
        "--warmup", type=seconds(positive=False), metavar="TIME", help="Load for so long before [1s; with -n 0]."
    ),
    click.option(
        "--timeout",
        type=seconds(positive=True),
        metavar="TIME",
        default="30s",
        show_default=True,
        help="Give a request up after so long.",
    ),
    click.option(
        "--tool",
        "tools",
        multiple=True,
        type=parsed(parse_tool),
        metavar="NAME[=JSON][:WEIGHT]",
        help="Call this tool; may be repeated.",
    ),
    click.option(
        "--method",
        "methods",
        multiple=True,
        type=parsed(parse_method),
        metavar="METHOD[=JSON][:WEIGHT]",
        help="Send this request; may be repeated [tools/list, where nothing else is named].",
    ),
    click.option("--mix", "mix_file", type=_PATH, help="YAML or JSON file with tools and methods."),
    click.option("--unlisted", is_flag=True, help="Call tools that the target does not list, too."),
    click.option(
        "--era",
        type=click.Choice(["auto", "stateless", "handshake"]),
        default="auto",
        show_default=True,
        help="Revision 2026-07-28, or a handshake and a session for each connection.",
    ),
    click.option(
        "--max-errors",
        type=errors,
        metavar="NUMBER|SHARE%",
        default="0",
        show_default=True,
        help="Exit with 1 when more requests fail.",
    ),
    click.option(
        "--expect-p99-ms",
        type=number(0, 1e9, positive=True),
        metavar="NUMBER",
        help="Exit with 1 when the 99th percentile is above.",
    ),
    click.option(
        "--expect-rate",
        type=number(0, MAX_RATE, positive=True),
        metavar="NUMBER",
        help="Exit with 1 below so many good answers a second.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON for machines."),
    click.option("--html", "html_path", type=_PATH, help="Write the result with pictures to this file, too."),
)


def _with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command("benchmark")
@click.argument("url", required=False)
@_with_options
def benchmark_command(
    url: str | None,
    url_option: str | None,
    token: str | None,
    insecure: bool,
    connections: int,
    rate: float | None,
    duration: float | None,
    requests: int | None,
    warmup: float | None,
    timeout: float,
    tools: tuple[Operation, ...],
    methods: tuple[Operation, ...],
    mix_file: Path | None,
    unlisted: bool,
    era: str,
    max_errors: tuple[float, bool],
    expect_p99_ms: float | None,
    expect_rate: float | None,
    as_json: bool,
    html_path: Path | None,
) -> None:
    """Load the MCP server at URL and report rate, latencies and failures.

    Without URL it is the local proxy. Nothing is sent to anyone else: redirects and proxies are not followed. Ctrl-C
    ends early and still reports. Exit code 1: more failures than --max-errors, or an expectation missed.
    """
    if url is not None and url_option is not None and os.environ.get("ONLY1MCP_URL") != url_option:
        raise click.UsageError("expected one URL, got two")
    chosen = url or url_option or DEFAULT_URL
    try:
        target = parse_target(chosen)
        chosen.encode()
        mix = [*tools, *methods, *(load_mix(mix_file) if mix_file is not None else ())]
        layout(mix)
    except MixError as error:
        _leave(str(error), USAGE)
    except ValueError as error:
        _leave(f"{chosen!r}: {error}", USAGE, f"a URL looks like {DEFAULT_URL}")
    if token and re.fullmatch(r"[\x21-\x7e]+", token) is None:
        _leave("the token: expected visible ASCII characters, without spaces", USAGE)
    _make_room(connections)
    plan = Plan(
        url=chosen,
        target=target,
        token=token,
        insecure=insecure,
        operations=tuple(mix) or DEFAULT_MIX,
        connections=connections,
        rate=rate,
        duration_s=duration if duration is not None or requests is not None else DEFAULT_DURATION_S,
        requests=requests,
        warmup_s=warmup if warmup is not None else 0.0 if requests is not None else DEFAULT_WARMUP_S,
        timeout_s=timeout,
        era=era,
        unlisted=unlisted,
    )
    gates = Gates(*max_errors, expect_p99_ms=expect_p99_ms, expect_rate=expect_rate)
    html = _HtmlFile(html_path) if html_path is not None else None
    try:
        document = _measured(plan, gates)
    except BaseException:
        if html is not None:
            html.discard()
        raise
    if as_json:
        print_json(document)
    else:
        for line in render(document, unicode=_knows_blocks(sys.stdout)):
            click.echo(printable(line))
    if html is not None:
        html.write(render_html(document))
    if not document["ok"]:
        sys.exit(FAILURE)


def _measured(plan: Plan, gates: Gates) -> dict[str, Any]:
    """Run the plan and return its figures; leave with the reason when it cannot begin."""
    # Before anything is sent: whom it goes to must be plain.
    _say(f"target    {plan.url}")
    with _ProgressBar() as bar:
        try:
            return figures(run_loop(run(plan, lambda ground: _announce(plan, ground), bar.show)), gates)
        except LoadError as error:
            if error.cannot_connect:
                code = CANNOT_CONNECT
            else:
                code = USAGE if error.usage else FAILURE
            _leave(str(error), code, error.hint)


def _announce(plan: Plan, ground: Ground) -> None:
    """Say on standard error who answered, and what comes now."""
    how = "closed loop" if plan.rate is None else f"{plan.rate:g} requests a second"
    ends = [f"{plan.duration_s:g} s"] if plan.duration_s is not None else []
    ends += [f"{plan.requests:,} requests"] if plan.requests is not None else []
    mix = ", ".join(f"{each.label} x{each.weight}" if each.weight > 1 else each.label for each in plan.operations[:5])
    more = f" and {len(plan.operations) - 5} more" if len(plan.operations) > 5 else ""
    server = f" ({ground.server})" if ground.server else ""
    warmup = f" after {plan.warmup_s:g} s of warm-up" if plan.warmup_s else ""
    _say(f"at        {ground.address.shown}{server}, revision {ground.revision}")
    _say(f"load      {plan.connections} connections, {how}, {' or '.join(ends)}{warmup}")
    _say(f"mix       {mix}{more}")


def _say(line: str) -> None:
    click.echo(printable(line), err=True)


class _ProgressBar:
    """Shows on a terminal how far the run is; elsewhere it says nothing, and nothing of it stays."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._shown = sys.stderr is not None and sys.stderr.isatty()
        self._state = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, progress: Progress) -> None:
        if not self._shown:
            return
        if self._bar is None:
            self._bar = click.progressbar(
                length=_BAR_STEPS, file=sys.stderr, show_eta=False, width=24, item_show_func=lambda _: self._state
            )
        rate = progress.good / progress.elapsed_s if progress.elapsed_s > 0 else 0.0
        parts = [progress.phase, f"{progress.good:,} good", f"{rate:,.0f}/s", f"{progress.failed:,} failed"]
        if progress.backlog:
            parts.append(f"{progress.backlog:,} due")
        if progress.phase == "waiting":
            parts.append(f"{progress.in_flight:,} answers to come")
        self._state = "  ".join(parts)
        self._bar.update(max(0, round(progress.done * _BAR_STEPS) - self._bar.pos), current_item=self._state)
        self._bar.render_progress()

    def clear(self) -> None:
        if self._bar is not None:
            self._bar = None
            click.echo("\r\x1b[K", nl=False, err=True)


class _HtmlFile:
    """The file of `--html`: opened before the load, so that a bad path costs no run; written after it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made = not path.exists()
        try:
            self._file: IO[bytes] = path.open("ab")
        except OSError as error:
            _leave(f"--html {path}: {(error.strerror or str(error)).lower()}", USAGE)

    def write(self, text: str) -> None:
        try:
            with self._file:
                if self._file.seekable():
                    self._file.truncate(0)
                self._file.write(text.encode())
        except OSError as error:
            _leave(f"--html {self._path}: {(error.strerror or str(error)).lower()}", FAILURE)

    def discard(self) -> None:
        """Leave no empty file behind."""
        self._file.close()
        if self._made:
            self._path.unlink(missing_ok=True)


def _make_room(connections: int) -> None:
    """Raise the limit of open files as far as it goes, and leave when that is not far enough."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        _leave(
            f"{connections} connections need {wanted} open files, this process may have {hard}",
            USAGE,
            "raise the limit (ulimit -Hn), or take fewer connections",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _knows_blocks(stream: Any) -> bool:
    try:
        "█▏".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True


def _leave(message: str, code: int, hint: str | None = None) -> NoReturn:
    print_error(message, hint)
    sys.exit(code)
