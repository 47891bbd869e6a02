"""Deployments that go well, and every way in which they do not: what is in service is always one whole release."""

from __future__ import annotations

import fcntl
import functools
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.scripts.host import CRASHING, SILENT, STUBBORN, Host

NEEDED = ("bash", "curl", "flock", "cmp")
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not all(map(shutil.which, NEEDED)), reason=f"needs Linux with {', '.join(NEEDED)}"
)
FEW = {"DEPLOY_HEALTH_TRIES": "3"}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host with nothing on it."""
    made = Host(tmp_path, real=False)
    yield made
    made.close()


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Host]:
    """A host for the proxy itself, with 1.0.0 in service and 1.1.0 there."""
    made = Host(tmp_path, real=True)
    made.release("1.0.0")
    made.release("1.1.0")
    made.install("1.0.0")
    assert made.in_service() == "1.0.0"
    yield made
    made.close()


@pytest.fixture
def served(host: Host) -> Host:
    """A host with 1.0.0 in service, and 1.1.0 there to be deployed."""
    host.release("1.0.0")
    host.release("1.1.0")
    host.install("1.0.0")
    assert host.in_service() == "1.0.0"
    return host


def mount_possible() -> bool:
    return not subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode


def test_the_first_deployment(host: Host) -> None:
    host.release("1.0.0")
    done = host.deploy("1.0.0")
    assert done.returncode == 0, done.stderr
    assert host.state() == ("1.0.0", None)


def test_deploy_and_go_back(real: Host) -> None:
    first = real.pid
    done = real.deploy("v1.1.0", "production")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "deploy: in service: only1mcp 1.1.0 (compiled)"
    assert real.pid != first
    assert real.state() == ("1.1.0", "1.0.0")

    assert real.rollback().returncode == 0
    assert real.state() == ("1.0.0", "1.1.0")
    assert real.rollback().returncode == 0
    assert real.state() == ("1.1.0", "1.0.0")

    again = real.deploy("1.1.0")
    assert again.returncode == 0, again.stderr
    assert real.state() == ("1.1.0", "1.0.0")


def untouched(host: Host, pid: int | None, done: subprocess.CompletedProcess[str], said: str, status: int = 3) -> None:
    """The same process serves the same release as before, and the message says why."""
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert host.pid == pid
    assert host.state() == ("1.0.0", None)


def test_a_bad_checksum(served: Host) -> None:
    pid = served.pid
    artifact = served.releases / "v1.1.0"
    (file,) = artifact.glob("only1mcp-*")
    file.write_bytes(file.read_bytes() + b"\n")
    untouched(served, pid, served.deploy("1.1.0"), "checksum")


def test_a_release_that_is_not_what_it_should_be(served: Host) -> None:
    pid = served.pid
    untouched(served, pid, served.deploy("1.2.0"), "there is no")
    sums = served.releases / "v1.1.0" / "SHA256SUMS"
    right = sums.read_text()
    for wrong in ("", right + right, right.replace("only1mcp-1", "only1mcp-2"), right[1:], right.replace(" ", "\0")):
        sums.write_text(wrong)
        untouched(served, pid, served.deploy("1.1.0"), "must have one line")
    (file,) = sums.parent.glob("only1mcp-*")
    text = file.read_text()
    file.write_text(text.replace("only1mcp 1.1.0 ", "only1mcp 1.1.01 "))
    served.sign("1.1.0")
    untouched(served, pid, served.deploy("1.1.0"), "says that it is")
    file.write_text("\x7fELF of another machine")
    served.sign("1.1.0")
    untouched(served, pid, served.deploy("1.1.0"), "does not run on this machine")


def test_an_attestation_is_asked_for_where_it_should_be(served: Host) -> None:
    pid = served.pid
    served.tool("gh", f'echo "$@" >> {served.tools}/asked; [ -e {served.tools}/yes ]')
    untouched(served, pid, served.deploy("1.1.0", DEPLOY_ATTESTED_BY="us/only1mcp"), "no attestation of us/only1mcp")
    (served.tools / "yes").touch()
    assert served.deploy("1.1.0", DEPLOY_ATTESTED_BY="us/only1mcp").returncode == 0
    assert (served.tools / "asked").read_text().endswith("--repo us/only1mcp\n")


def test_an_invalid_configuration(real: Host) -> None:
    pid = real.pid
    real.config.write_text(real.config.read_text() + "surprise: 1\n")
    done = real.deploy("1.1.0")
    untouched(real, pid, done, "is not valid")
    assert "surprise" in done.stdout + done.stderr


def test_the_configuration_is_read_as_the_service_reads_it(real: Host) -> None:
    pid = real.pid
    real.config.write_text(
        real.config.read_text()
        + "auth: {jwt: {secret_env: SECRET_OF_THE_SERVICE}}\nprofiles: {staging: {logging: {level: error}}}\n"
    )
    # What the caller happens to have does not count.
    untouched(real, pid, real.deploy("1.1.0", SECRET_OF_THE_SERVICE="x" * 32), "is not valid")
    secret = f'# a comment\n\n SECRET_OF_THE_SERVICE="{"x" * 32}"  \nnot a line\n'
    real.variables.write_text(secret)
    untouched(real, pid, real.deploy("1.1.0"), "is not valid")  # there is no profile `production`
    real.variables.write_text(f"{secret}ONLY1MCP_ENV='staging'")
    untouched(real, pid, real.deploy("1.1.0", "production"), "this host is staging, not production")
    real.environment["SECRET_OF_THE_SERVICE"] = "x" * 32  # of the service that the stand-in starts
    arguments = real.tools / "arguments"
    real.tool("timeout", f'echo "$@" >> {arguments}; exec {shutil.which("timeout")} "$@"')
    assert real.deploy("1.1.0", "staging").returncode == 0
    assert real.state() == ("1.1.0", "1.0.0")
    assert "validate" in arguments.read_text()
    assert "x" * 32 not in arguments.read_text()  # which everybody could read


def test_where_only_the_service_can_read_its_secrets(served: Host) -> None:
    served.release("2.0.0", "validate) exit 1 ;;")
    pid = served.pid
    untouched(served, pid, served.deploy("2.0.0"), "is not valid")
    assert served.deploy("2.0.0", DEPLOY_VALIDATE="no").returncode == 0
    assert served.state() == ("2.0.0", "1.0.0")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_configuration_is_read_by_who_the_service_is(served: Host) -> None:
    pid = served.pid
    untouched(served, pid, served.deploy("1.1.0", DEPLOY_USER="nobody"), "is not valid")  # cannot even look there


@pytest.mark.parametrize("instead", [SILENT, CRASHING])
def test_a_version_that_does_not_work(served: Host, instead: str) -> None:
    assert served.deploy("1.1.0").returncode == 0
    served.release("2.0.0", instead)
    done = served.deploy("2.0.0", **FEW)
    assert (done.returncode, "everything is as it was" in done.stderr) == (4, True), done.stderr
    assert served.state() == ("1.1.0", "1.0.0")


def test_a_first_version_that_does_not_work(host: Host) -> None:
    host.release("1.0.0", CRASHING)
    assert host.deploy("1.0.0", **FEW).returncode == 4
    assert host.state() == (None, None)
    assert not host.binary.exists()


def test_a_service_that_was_stopped_stays_stopped_when_it_goes_wrong(served: Host) -> None:
    served.close()
    served.release("2.0.0", SILENT)
    assert served.deploy("2.0.0", **FEW).returncode == 4
    assert served.pid is None
    assert served.version(served.binary) == "1.0.0"


def test_an_answer_of_somebody_else_does_not_count(served: Host, tmp_path: Path) -> None:
    served.release("2.0.0", CRASHING)
    elsewhere = tmp_path / "health"
    elsewhere.write_text("ok")
    with Web(tmp_path) as url:
        done = served.deploy("2.0.0", DEPLOY_HEALTH_URL=f"{url}/health", **FEW)
    assert (done.returncode, "the service is failed" in done.stderr) == (4, True), done.stderr
    assert served.state() == ("1.0.0", None)


def test_going_back_that_fails_too_is_said(served: Host) -> None:
    served.config.write_text("# what the old version does not start with\n" + served.config.read_text())
    served.release("3.0.0", "validate) exit 0 ;; start) exit 1 ;;")
    done = served.deploy("3.0.0", **FEW)
    assert (done.returncode, "so did going back" in done.stderr) == (5, True), done.stderr
    assert served.pid is None
    assert served.version(served.binary) == "1.0.0"
    assert served.state() == (None, None)


def test_a_stop_that_hangs(host: Host) -> None:
    host.release("1.0.0", STUBBORN)
    host.release("1.1.0")
    host.install("1.0.0")
    done = host.deploy("1.1.0", DEPLOY_STOP_TIMEOUT_S="0.3")
    assert (done.returncode, "killing it" in done.stderr) == (0, True), done.stderr
    assert host.state() == ("1.1.0", "1.0.0")


def test_a_service_that_cannot_be_stopped_at_all_is_left_alone(served: Host) -> None:
    pid = served.pid
    (served.systemd / "unkillable").touch()
    served.tool("sleep", "")
    untouched(served, pid, served.deploy("1.1.0"), "it is still there", status=4)


@pytest.mark.skipif(not shutil.which("unshare") or not mount_possible(), reason="needs mounts of its own (unshare -rm)")
@pytest.mark.parametrize(
    ("options", "said"),
    [("ro", "Read-only file system"), ("size=64k", "cannot copy"), ("nr_inodes=5", "No space left on device")],
)
def test_a_disk_that_takes_nothing(host: Host, options: str, said: str) -> None:
    small, large = host.release("1.0.0"), host.release("1.1.0")
    large.write_text(large.read_text() + "# " + "x" * 100_000)
    host.sign("1.1.0")
    folder = host.binary.parent
    shutil.copy(small, host.binary.parent.parent / "old")
    script = f"""
        mount -t tmpfs -o size=64k tmpfs {folder}
        cp -p {folder.parent}/old {host.binary} && touch {folder}/x {folder}/y
        mount -o remount,{options} {folder}
        "$@"
        echo "status $?"
        cmp {host.binary} {folder.parent}/old && ls -A {folder} | tr '\\n' ' '
    """
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *host.command("1.1.0")],
        env=host.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said in done.stderr, done
    assert done.stdout.splitlines()[-2:] == ["status 3", "only1mcp x y "], done
    assert host.pid is None


def lines_until(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"{word!r} was never said: {process.communicate()}")


class Web:
    """A web server for the files of a folder; `with` gives its address."""

    def __init__(self, folder: Path) -> None:
        handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(handler, directory=str(folder))
        )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_download_over_http(served: Host) -> None:
    with Web(served.releases) as url:
        pid = served.pid
        untouched(served, pid, served.deploy("9.9.9", DEPLOY_RELEASES=url), "cannot download")
        done = served.deploy("1.1.0", DEPLOY_RELEASES=url)
    assert done.returncode == 0, done.stderr
    assert served.state() == ("1.1.0", "1.0.0")


@pytest.mark.parametrize(
    ("moment", "status", "number"),
    [
        ("getting", 3, signal.SIGTERM),
        ("stopping", 4, signal.SIGTERM),
        ("starting", 4, signal.SIGTERM),
        ("asking", 4, signal.SIGTERM),
        ("asking", 4, signal.SIGINT),
        ("asking", 4, signal.SIGHUP),
    ],
)
def test_interrupted_in_the_middle(served: Host, moment: str, status: int, number: signal.Signals) -> None:
    served.release("2.0.0", SILENT)
    if moment == "getting":
        served.tool("cp", "exec sleep 600")
    process = served.begin("2.0.0")
    lines_until(process, moment)
    process.send_signal(number)
    # Once more while everything is put back.
    if status == 4:
        lines_until(process, "going back")
        process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, f"interrupted by {number.name}" in errors) == (status, True), errors
    assert served.state() == ("1.0.0", None)
    with open(served.environment["DEPLOY_LOCK"], "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_killed_in_the_middle_leaves_a_whole_binary_and_the_next_run_cleans_up(served: Host) -> None:
    served.release("2.0.0", SILENT)
    process = served.begin("2.0.0")
    lines_until(process, "asking")
    process.kill()
    process.communicate()
    assert served.version(served.binary) == "2.0.0"
    assert served.version(served.backup) == "1.0.0"
    # A child of the killed one may hold a reply for a moment; the lock it does not hold.
    done = served.rollback()
    assert done.returncode == 0, done.stderr
    assert served.state() == ("1.0.0", "2.0.0")


def test_one_at_a_time(served: Host) -> None:
    served.release("2.0.0", SILENT)
    process = served.begin("2.0.0")
    lines_until(process, "asking")
    second = served.deploy("1.1.0")
    assert (second.returncode, "another deployment" in second.stderr) == (75, True)
    assert served.rollback().returncode == 75
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 4
    assert served.state() == ("1.0.0", None)
    with open(served.environment["DEPLOY_LOCK"], "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the service does not hold it either


def test_nothing_to_go_back_to(served: Host) -> None:
    pid = served.pid
    untouched(served, pid, served.rollback(), "to go back to")
    shutil.copy(served.binary, served.backup)
    done = served.rollback()
    assert (done.returncode, "in service already" in done.stderr) == (3, True)


def test_a_reader_who_leaves_does_not_end_it_half_way(served: Host) -> None:
    process = served.begin("1.1.0")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait(30) == 0
    assert served.state() == ("1.1.0", "1.0.0")


@pytest.mark.parametrize(
    ("arguments", "environment", "status"),
    [
        ([], {}, 2),
        (["latest"], {}, 2),
        (["1.0"], {}, 2),
        (["1.0.0/../../x"], {}, 2),
        (["1.0.0\n"], {}, 2),
        (["01.0.0"], {}, 2),
        (["1.0.0" + "0" * 100], {}, 2),
        (["1.0.0", "a b"], {}, 2),
        (["1.0.0", "production", "x"], {}, 2),
        (["1.0.0"], {"DEPLOY_BINARY": "bin/only1mcp"}, 2),
        (["1.0.0"], {"DEPLOY_HEALTH_TRIES": "0"}, 2),
        (["1.0.0"], {"DEPLOY_HEALTH_TRIES": "$(touch x)"}, 2),
        (["1.0.0"], {"DEPLOY_STOP_TIMEOUT_S": "soon"}, 2),
        (["1.0.0"], {"DEPLOY_VALIDATE": "perhaps"}, 2),
        (["1.0.0", "staging"], {}, 3),
        (["1.0.0"], {"DEPLOY_RELEASES": ""}, 3),
        (["1.0.0"], {"DEPLOY_RELEASES": "http://releases.example"}, 3),
        (["1.0.0"], {"DEPLOY_RELEASES": "http://127.0.0.1.releases.example"}, 3),
        (["1.0.0"], {"DEPLOY_RELEASES": "-K/etc/passwd"}, 3),
        (["1.0.0"], {"DEPLOY_LOCK": "/nowhere/at/all"}, 3),
        (["1.0.0"], {"DEPLOY_BINARY": "/nowhere/at/all"}, 3),
    ],
)
def test_wrong_use(host: Host, arguments: list[str], environment: dict[str, str], status: int) -> None:
    host.release("1.0.0")
    done = host.deploy(*arguments, **environment)
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("deploy: ")
    assert host.state() == (None, None)


def test_a_unit_that_is_not_there(host: Host) -> None:
    host.release("1.0.0")
    (host.systemd / "absent").touch()
    done = host.deploy("1.0.0")
    assert (done.returncode, "install deploy/systemd/only1mcp.service" in done.stderr) == (3, True)
