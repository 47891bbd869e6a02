"""Log lines as operators read them, and outputs that are full, gone or stalled."""

import errno
import io
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp.config.schema import Logging, Output, Secret
from only1mcp.errors import ConfigError
from only1mcp.process import logs
from only1mcp.process.logsink import FileTarget, Sink, Target

log = logging.getLogger("only1mcp.backend")
access = logging.getLogger("only1mcp.access")


@pytest.fixture(autouse=True)
def _no_output_outlives_its_test():
    yield
    logs.shutdown()
    for thread in threading.enumerate():
        if thread.name == "only1mcp-log":
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def lines():
    """Configure with a console in memory and return what was written to it."""
    console = io.StringIO()

    def lines(**settings):
        if settings:
            logs.configure(Logging(**settings), console=console)
        logs.flush()
        return console.getvalue().splitlines()

    return lines


def entries(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_lines_have_the_fields(lines):
    lines(format="json")
    log.info("backend.up", extra={"fields": {"backend": "files", "tools": 3, "slow": None, "token": Secret("hunter2")}})
    (line,) = lines()
    entry = json.loads(line)
    assert entry.pop("ts").endswith("Z")
    assert entry == {
        "level": "info",
        "logger": "only1mcp.backend",
        "event": "backend.up",
        "backend": "files",
        "tools": 3,
        "slow": None,
        "token": "***",
    }


def test_fields_do_not_cover_the_lines_own(lines):
    lines(format="json")
    log.warning("x", extra={"fields": {"level": "none", "event": "other", 7: "number"}})
    entry = json.loads(lines()[0])
    assert (entry["level"], entry["level_"], entry["event"], entry["event_"]) == ("warning", "none", "x", "other")
    assert entry["7"] == "number"


def test_values_that_json_cannot_hold_are_shown(lines):
    circular: list = []
    circular.append(circular)
    lines(format="json")
    log.info(
        "odd", extra={"fields": {"big": 1 << 70, "bytes": b"a\xff", "set": {1}, "lone": "\ud800", "ring": circular}}
    )
    entry = json.loads(lines()[0])
    assert entry["big"] == str(1 << 70)
    assert entry["bytes"] == "a\\xff"
    assert entry["set"] == "{1}"
    assert entry["lone"] == "\\ud800"
    assert entry["ring"] == "[[...]]"


@pytest.mark.parametrize("format", ["json", "text"])
def test_nothing_from_outside_begins_a_line_or_steers_the_terminal(lines, format):
    evil = "a\nb\r\x1b[31m\x00\x9b2J\u202e\u2028z"
    lines(format=format)
    log.info("event %s", evil, extra={"fields": {evil: evil, "quote": 'a"b\\'}})
    try:
        raise ValueError(evil)
    except ValueError:
        log.exception("failed")
    written = lines()
    if format == "json":
        assert len(written) == 2
        assert json.loads(written[0])[evil] == evil
        assert evil in json.loads(written[1])["exception"]
    else:
        assert all(line.isprintable() for line in written)
        assert 'quote="a\\"b\\\\"' in written[0]
        assert written[1].endswith(" failed")
        assert all(line.startswith("    | ") for line in written[2:])
    assert not any(char in "".join(written) for char in evil[1:2] + "\r\x1b\x00\x9b\u202e\u2028")


@given(st.text(), st.text(), st.text())
def test_a_text_line_is_one_printable_line(event, name, value):
    record = logging.makeLogRecord({"name": "only1mcp", "levelname": "INFO", "msg": event, "fields": {name: value}})
    assert logs.TextFormatter().format(record).isprintable()


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.binary() | st.floats() | st.none()))
def test_a_json_line_is_one_json_object(fields):
    record = logging.makeLogRecord({"name": "only1mcp", "levelname": "INFO", "msg": "x", "fields": fields})
    line = logs.JSONFormatter().format(record)
    assert json.loads(line)["event"] == "x"
    assert "\n" not in line


def test_arguments_that_do_not_fit_and_fields_that_raise_harm_nobody():
    # In a process of its own: the test runner's handler does not bear what ours has to.
    program = """
import logging
from only1mcp.config.schema import Logging
from only1mcp.process import logs

class Hostile:
    def __str__(self):
        raise RuntimeError("no")

logs.configure(Logging())
log = logging.getLogger("only1mcp.backend")
log.info("bad %d", "x")
log.info("lost", extra={"fields": {"x": Hostile()}})
log.info("after", extra={"fields": "not a dict"})
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, check=True)
    events = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert [event for event in events if event != "log.dropped"] == ["bad %d", "after"]
    assert result.stderr == b""


@pytest.mark.parametrize(
    ("level", "seen"),
    [("debug", 4), ("info", 3), ("warn", 2), ("warning", 2), ("error", 1)],
)
def test_levels(lines, level, seen):
    lines(level=level)
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.log(number, "x")
    logging.getLogger("asyncio").debug("never")
    assert len(lines()) == seen


def test_a_file_gets_lines_and_the_access_file_only_access(tmp_path):
    main, visits = tmp_path / "main.log", tmp_path / "access.log"
    logs.configure(Logging(outputs=(Output(type="file", path=str(main)), Output(type="access", path=str(visits)))))
    log.info("one")
    access.info("request", extra={"fields": {"status": 200}})
    logs.flush()
    assert [entry["event"] for entry in entries(main)] == ["one"]
    assert [entry["status"] for entry in entries(visits)] == [200]
    assert main.stat().st_mode & 0o007 == 0


def test_without_an_access_output_access_lines_are_not_even_made(lines):
    lines(level="debug")
    assert not access.isEnabledFor(logging.INFO)


def test_configuring_again_replaces_the_outputs(tmp_path, lines):
    logs.configure(Logging(outputs=(Output(type="file", path=str(tmp_path / "a.log")),)))
    log.info("one")
    lines(format="text")
    log.info("two")
    assert [line.rpartition(" ")[2] for line in lines()] == ["two"]
    assert [entry["event"] for entry in entries(tmp_path / "a.log")] == ["one"]


def test_files_that_cannot_be_opened_are_all_named(tmp_path, lines):
    lines(format="text")
    blocked = Logging(
        outputs=(
            Output(type="file", path=str(tmp_path / "nowhere" / "a.log")),
            Output(type="file", path=str(tmp_path / "fine.log")),
            Output(type="access", path=str(tmp_path)),
        )
    )
    with pytest.raises(ConfigError) as caught:
        logs.configure(blocked)
    first, second = caught.value.problems
    assert first.startswith("logging.outputs[0].path: ")
    assert "nowhere does not exist" in first
    assert "logging.outputs[2].path" in second
    log.info("still here")
    assert lines()[-1].endswith("still here")


def test_rotation_keeps_as_many_files_as_asked_for(tmp_path):
    path = tmp_path / "a.log"
    target = FileTarget(path, limit_bytes=100, backups=2)
    for number in range(10):
        target.write(b"%d" % number * 59 + b"\n")
    target.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2"]
    assert [Path(f"{path}{end}").read_bytes()[:1] for end in ("", ".1", ".2")] == [b"9", b"8", b"7"]


def test_rotation_without_backups_starts_over(tmp_path):
    path = tmp_path / "a.log"
    target = FileTarget(path, limit_bytes=100, backups=0)
    for number in range(3):
        target.write(b"%d" % number * 59 + b"\n")
    target.close()
    assert path.read_bytes() == b"2" * 59 + b"\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_moved_away_is_opened_anew(tmp_path):
    path = tmp_path / "a.log"
    target = FileTarget(path, limit_bytes=1000, backups=1)
    target.write(b"one\n")
    path.rename(tmp_path / "moved.log")
    target.write(b"two\n")
    path.unlink()
    target.write(b"three\n")
    target.close()
    assert (path.read_bytes(), (tmp_path / "moved.log").read_bytes()) == (b"three\n", b"one\n")


class FullTarget(Target):
    """A disk that is full until `room` is set."""

    name = "full.log"

    def __init__(self):
        self.room = False
        self.written = b""

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.written += data

    def close(self):
        pass


def test_a_full_disk_drops_lines_counts_them_and_tells_once(capfd):
    target = FullTarget()
    sink = Sink(target, notice=lambda count: b"lost %d\n" % count)
    for _ in range(3):
        sink.put(b"x\n")
        sink.flush()
    assert sink.dropped == 3
    target.room = True
    sink.put(b"y\n")
    sink.close()
    assert target.written == b"lost 3\ny\n"
    assert (
        capfd.readouterr().err == "only1mcp: full.log takes no log lines (no space left on device); they are dropped\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_device_that_is_full(capfd):
    logs.configure(Logging(outputs=(Output(type="file", path="/dev/full"),)))
    for _ in range(100):
        log.info("x")
        logs.flush()
    logs.shutdown()
    assert capfd.readouterr().err.count("takes no log lines") == 1


def test_half_a_line_is_ended_before_the_next(tmp_path):
    path = tmp_path / "a.log"
    script = f"""
import resource, signal, sys
from pathlib import Path
from only1mcp.process.logsink import FileTarget
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
target = FileTarget(Path({str(path)!r}), 1 << 20, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
try:
    target.write(b"0123456789abcdef\\n")
except OSError:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    target.write(b"next\\n")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
    assert path.read_bytes() == b"0123456789\nnext\n"


class StalledTarget(Target):
    name = "stalled"

    def __init__(self):
        self.entered = threading.Event()
        self.release = threading.Event()

    def write(self, data):
        self.entered.set()
        self.release.wait(30)

    def close(self):
        pass


def test_an_output_that_stalls_holds_nobody_up():
    target = StalledTarget()
    sink = Sink(target, notice=lambda count: b"", limit_bytes=100)
    sink.put(b"first\n")
    assert target.entered.wait(10)
    for _ in range(50):
        sink.put(b"0123456789")
    assert sink.dropped == 40
    sink.flush(limit_s=0.01)
    target.release.set()
    sink.close()


PROGRAM = """
import logging, sys
from only1mcp.config.schema import Logging
from only1mcp.process import logs
logs.configure(Logging())
log = logging.getLogger("only1mcp.test")
for number in range(2000):
    log.info("event", extra={"fields": {"number": number, "pad": "x" * 200}})
"""


def test_everything_logged_before_the_end_is_written():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, timeout=30, check=True)
    numbers = [json.loads(line)["number"] for line in result.stdout.splitlines()]
    assert numbers == list(range(2000))
    assert result.stderr == b""


def test_a_closed_pipe_ends_nothing():
    reader, writer = os.pipe()
    os.close(reader)
    program = PROGRAM + "logs.flush()\nlog.info('again')\nlogs.flush()\nsys.stderr.write('alive\\n')\n"
    try:
        result = subprocess.run(
            [sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, timeout=30, check=True
        )
    finally:
        os.close(writer)
    assert result.stderr.decode() == "only1mcp: <stdout> takes no log lines (broken pipe); they are dropped\nalive\n"


def test_a_pipe_that_nobody_reads_does_not_stop_the_program():
    reader, writer = os.pipe()
    program = PROGRAM.replace("2000", "30_000") + "sys.stderr.write('alive\\n'); sys.stderr.flush()\n"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    try:
        _, err = child.communicate(timeout=50)
    finally:
        os.close(reader)
    assert child.returncode == 0
    assert sorted(err.decode().splitlines()) == [
        "alive",
        "only1mcp: <stdout> takes no log lines (it is stalled); they are dropped",
    ]


def test_few_file_descriptors_are_used(tmp_path):
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    if before is None:
        pytest.skip("this system does not list open descriptors")
    for _ in range(20):
        logs.configure(Logging(outputs=(Output(type="file", path=str(tmp_path / "a.log")),)))
        log.info("x")
    logs.shutdown()
    assert len(os.listdir("/proc/self/fd")) == before
