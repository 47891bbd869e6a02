"""A deployment from afar, with stand-ins for ssh and sudo: no key is left anywhere, words arrive as they were."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.scripts.host import Host

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="deploy.sh is for Linux")

# What a shell on the other side makes of the last word; its environment is not ours.
SSH = """
echo "$@" >> {log}
while [ "$1" != -- ]; do
    case $1 in -i) echo "key $(cat "$2") $(stat -c %a "$2")" >> {log} ;;
        UserKnownHostsFile=*) echo "hosts $(cat "${{1#*=}}")" >> {log} ;; esac
    shift
done
exec env -i PATH="$PATH" STAND_IN="$STAND_IN" sh -c "$3"
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path, real=False)
    made.tool("ssh", SSH.format(log=tmp_path / "log"))
    made.tool("sudo", '[ "$1" = -n ] && shift && exec "$@"')
    made.environment |= {
        "SSH_HOST": "gateway.example",
        "SSH_USER": "deploy",
        "SSH_KEY": "the key",
        "SSH_KNOWN_HOSTS": "gateway.example ssh-ed25519 AAAA",
        "TMPDIR": str(tmp_path / "scratch"),
    }
    (tmp_path / "scratch").mkdir()
    yield made
    made.close()


def remote(host: Host, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return host.deploy(*arguments, script="deploy_remote.sh", **environment)


def test_deploy_and_back(host: Host, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.1.0"):
        host.release(version)
        done = remote(host, version)
        assert done.returncode == 0, done.stderr
    assert host.state() == ("1.1.0", "1.0.0")
    assert remote(host, "--rollback", "production").returncode == 0
    assert host.state() == ("1.0.0", "1.1.0")
    log = (tmp_path / "log").read_text()
    assert "StrictHostKeyChecking=yes" in log
    assert "key the key 600\n" in log
    assert "hosts gateway.example ssh-ed25519 AAAA\n" in log
    assert " -- deploy@gateway.example sudo -n env " in log
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_fails_there_fails_here(host: Host) -> None:
    assert remote(host, "1.0.0").returncode == 3
    assert remote(host, "1.0.0", "staging").returncode == 3
    host.tool("ssh", "exit 255")
    assert remote(host, "1.0.0").returncode == 255


def test_words_arrive_as_they_were(host: Host, tmp_path: Path) -> None:
    done = remote(host, f"1.0.0; touch {tmp_path}/here", f"$(touch {tmp_path}/here)")
    assert done.returncode == 2
    assert f"got '1.0.0; touch {tmp_path}/here'" in done.stderr
    assert not (tmp_path / "here").exists()
    done = remote(host, "1.0.0", DEPLOY_RELEASES=f"/a folder/$(touch {tmp_path}/here)`touch {tmp_path}/here`'\"")
    assert done.returncode == 3
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    "environment",
    [
        {"SSH_HOST": ""},
        {"SSH_USER": ""},
        {"SSH_KNOWN_HOSTS": ""},
        {"SSH_HOST": "-oProxyCommand=id"},
        {"SSH_USER": "a b"},
    ],
)
def test_wrong_settings(host: Host, tmp_path: Path, environment: dict[str, str]) -> None:
    done = remote(host, "1.0.0", **environment)
    assert (done.returncode, done.stderr[:15]) == (2, "deploy_remote: ")
    assert not (tmp_path / "log").exists()
