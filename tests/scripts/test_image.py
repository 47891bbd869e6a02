"""An archive of an image becomes the folder that it describes, or is refused; commands are run as its user."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from scripts.image import Image

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="images are run on Linux")
Files = dict[str, bytes | tarfile.TarInfo]
CONFIG: dict[str, Any] = {
    "User": "65532:65532",
    "Env": ["PLACE=inside", "PATH=/bin"],
    "Entrypoint": ["/bin/program"],
    "Cmd": ["start"],
    "Labels": {"org.opencontainers.image.version": "1.2.3"},
}

TELLS = r"""
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int count, char **words) {
    char text[100] = "";
    struct dirent **names;
    printf("%s\nuser %d of %d\n", count == 2 ? words[1] : "?", getuid(), getgid());
    printf("%s %s", getenv("PLACE"), getenv("MORE") ? getenv("MORE") : "nothing");
    printf(" %s\n", getenv("LEAKED") ? "leaked" : "alone");
    int file = open("/etc/our file", O_RDONLY);
    if (file >= 0 && read(file, text, sizeof text - 1) < 0) return 1;
    printf("%s\n", text);
    for (int number = 0, last = scandir("/", &names, NULL, alphasort); number < last; number++)
        if (names[number]->d_name[0] != '.') printf("%s%s", names[number]->d_name, number < last - 1 ? " " : "\n");
    if (mkdirat(AT_FDCWD, "/new", 0777) < 0) printf("%s\n", strerror(errno));
    return 0;
}
"""


def packed(files: Files) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, what in files.items():
            entry = what if isinstance(what, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(what, bytes):
                entry.size, entry.mode = len(what), 0o755
            archive.addfile(entry, io.BytesIO(what) if isinstance(what, bytes) else None)
    return output.getvalue()


def archive(folder: Path, *layers: Files, **changes: Any) -> Path:
    """Write an archive as `docker save` does, with these layers."""
    names = [f"layer{number}.tar" for number in range(len(layers))]
    manifest = {"Config": "config.json", "RepoTags": ["localhost/only1mcp:latest"], "Layers": names, **changes}
    parts = {name: packed(layer) for name, layer in zip(names, layers, strict=True)}
    config = json.dumps({"config": CONFIG}).encode()
    path = folder / "image.tar"
    path.write_bytes(packed({"manifest.json": json.dumps([manifest]).encode(), "config.json": config, **parts}))
    return path


def test_layers_lie_upon_each_other(tmp_path: Path) -> None:
    image = Image(archive(tmp_path, {"a": b"lower", "b": b"lower"}, {"b": b"upper"}), tmp_path / "root")
    assert {path.name: path.read_bytes() for path in image.root.iterdir()} == {"a": b"lower", "b": b"upper"}
    assert image.size_bytes == 10
    assert (image.name, image.label("version"), image.label("vendor")) == ("only1mcp", "1.2.3", None)


def test_modes_are_kept(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("open")
    entry.mode = 0o666
    image = Image(archive(tmp_path, {"open": entry}), tmp_path / "root")
    assert stat.S_IMODE((image.root / "open").stat().st_mode) == 0o666


def link(target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo("link")
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"../outside": b""}, "outside"),
        ({"link": link("../../outside")}, "outside"),
        ({"etc/.wh.passwd": b""}, "etc/.wh.passwd removes a file"),
    ],
)
def test_what_would_reach_out_or_remove_is_refused(tmp_path: Path, layer: Files, said: str) -> None:
    with pytest.raises(ValueError, match=f"expected the archive of one image: .*{said}"):
        Image(archive(tmp_path, layer), tmp_path / "root")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tar", "root"]


@pytest.mark.parametrize("changes", [{"Config": "missing.json"}, {"Layers": ["missing.tar"]}, {"Layers": None}])
def test_archives_of_another_kind_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected the archive of one image"):
        Image(archive(tmp_path, {"a": b""}, **changes), tmp_path / "root")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_text("no")
    with pytest.raises(ValueError, match="expected the archive of one image"):
        Image(tmp_path / "image.tar", tmp_path / "root")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("cc"),
    reason="needs root, unshare and a C compiler",
)
def test_a_command_sees_its_root_its_environment_and_what_is_mounted(tmp_path: Path) -> None:
    for above in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        above.chmod(0o755)
    (tmp_path / "tell.c").write_text(TELLS)
    subprocess.run(["cc", "-static", "-o", tmp_path / "tell", tmp_path / "tell.c"], check=True)
    image = Image(archive(tmp_path, {"bin/program": (tmp_path / "tell").read_bytes()}), tmp_path / "root")
    (tmp_path / "ours.txt").write_text("mounted")
    mounts = {"/etc/our file": tmp_path / "ours.txt", "/srv/ours": tmp_path}
    command = image.command(mounts=mounts, env={"MORE": "given"})
    done = subprocess.run(command, env={"LEAKED": "1", **os.environ}, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "start",
        "user 65532 of 65532",
        "inside given alone",
        "mounted",
        "bin etc srv",
        "Read-only file system",
    ], done.stderr
    alone = subprocess.run(image.command("/bin/program", "other"), capture_output=True, text=True, check=False)
    assert alone.stdout.splitlines()[:4] == ["other", "user 65532 of 65532", "inside nothing alone", ""]
