"""How the source of Debian's interpreter is found."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest
from binary import cpython


def test_lists_of_packages_become_lists_of_sources() -> None:
    deb822 = "Types: deb\n# a comment\nURIs: http://one/debian\nSuites: a b\n\nTypes: deb deb-src\nURIs: http://two\n"
    made = cpython.of_sources("debian.sources", deb822)
    assert made == deb822.replace("Types: deb deb-src", "Types: deb-src").replace("Types: deb\n", "Types: deb-src\n")
    one_line = (
        "# deb http://no x main\ndeb http://one a main\ndeb-src http://one a main\ndeb\t[arch=amd64] http://two b c\n"
    )
    made = cpython.of_sources("sources.list", one_line)
    assert made == "deb-src http://one a main\ndeb-src\t[arch=amd64] http://two b c\n"


@pytest.mark.skipif(
    not Path(sysconfig.get_config_var("LIBPL") or "", "Setup.stdlib").is_file(), reason="no Setup.stdlib here"
)
def test_the_files_of_wanted_modules_are_known() -> None:
    sources = cpython.listed()
    lacking = [one for one in cpython.WANTED if one not in sys.builtin_module_names and one not in sources]
    assert set(lacking) <= {"_sha1", "_sha2", "_sha256", "_sha512"}  # which of them there are depends on the version
    assert sources["_ssl"] == ["_ssl.c"]
    assert all(name.endswith(".c") for names in sources.values() for name in names)
