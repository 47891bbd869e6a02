"""Runs the image in an archive (`docker save`, `buildah push IMAGE docker-archive:FILE`) where there is no engine.

Its layers are unpacked into a folder, which is entered as the user of the image, with mounts of its own and so that
nobody can write to it: as `docker run --read-only --network host` would. That takes Linux and root.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

# How a layer says that a file of one below it is not there.
REMOVED = ".wh."
PROGRAMS = f"{os.defpath}:/usr/sbin:/sbin"
LABEL = "org.opencontainers.image."


class Image:
    """An unpacked image: `config` as the OCI image specification has it, its files in `root`, and its `name`."""

    def __init__(self, archive: Path, root: Path) -> None:
        """Unpack the archive into `root`, which is made; raise `ValueError` where it holds no image of this kind."""
        self.root = root
        root.mkdir()
        try:
            with tarfile.open(archive) as outer:
                (manifest,) = json.load(_file(outer, "manifest.json"))
                self.config: dict[str, Any] = json.load(_file(outer, manifest["Config"]))["config"]
                self.name: str = (manifest.get("RepoTags") or ["image"])[0].rpartition("/")[2].partition(":")[0]
                for layer in manifest["Layers"]:
                    with tarfile.open(fileobj=_file(outer, layer)) as inner:
                        inner.extractall(root, filter=_unpacked)
        except (tarfile.TarError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"expected the archive of one image: {error}") from error

    @property
    def size_bytes(self) -> int:
        """What its files take."""
        return sum(path.lstat().st_size for path in self.root.rglob("*") if not path.is_dir())

    def label(self, name: str) -> str | None:
        """Return a label of the OCI image specification, such as `version`."""
        found: str | None = (self.config.get("Labels") or {}).get(LABEL + name)
        return found

    def command(
        self, *words: str, mounts: Mapping[str, Path] | None = None, env: Mapping[str, str] | None = None
    ) -> list[str]:
        """Return how to run a command of the image; no words: what it runs by itself.

        `mounts` puts files and folders of ours at places in the image; `env` is added to its own environment.
        """
        given = dict(one.split("=", 1) for one in self.config.get("Env") or ()) | dict(env or {})
        words = words or (*self.config["Entrypoint"], *self.config["Cmd"])
        root, user = shlex.quote(str(self.root)), shlex.quote(self.config["User"])
        # Found here: the path among the variables is for the command.
        mount, chroot = (shutil.which(name, path=PROGRAMS) or name for name in ("mount", "chroot"))
        script = ["set -e", f"{mount} --make-rprivate /", f"{mount} --bind {root} {root}"]
        for place, ours in (mounts or {}).items():
            self._make(place, ours)
            script.append(f"{mount} --bind {shlex.quote(str(ours))} {root}{shlex.quote(place)}")
        script += [f"{mount} -o remount,bind,ro {root}", f'exec {chroot} --userspec={user} {root} "$@"']
        environment = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in given.items())]
        return ["unshare", "--mount", *environment, "/bin/sh", "-c", "; ".join(script), "sh", *words]

    def _make(self, place: str, ours: Path) -> None:
        """Make the file or folder that ours is mounted over, as engines do."""
        target = self.root / place.lstrip("/")
        if ours.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()


def _file(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    if found is None:
        raise ValueError(f"{name} is no file")
    return found


def _unpacked(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """Let a member through as it is, modes and owner included; refuse what would land elsewhere, or removes another."""
    tarfile.data_filter(member, folder)
    if Path(member.name).name.startswith(REMOVED):
        raise ValueError(f"{member.name} removes a file, layers may only add some")
    return member
