"""Installs, ahead of the tests, what they would install for themselves: `python -m tests.fetch`.

It needs nothing but the standard library, so that it can be run while the package is still being built. What cannot be
had is named; the tests that need it will say so as well.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.e2e import third_party
from wheels import environments, foreign

WANTED: dict[str, Callable[[], object]] = {
    "servers and clients from npm": third_party.node_packages,
    "the conformance suite": third_party.conformance_suite,
    third_party.SDK: third_party.python_sdk,
    third_party.OLD_SDK: partial(third_party.python_sdk, third_party.OLD_SDK),
    "tools of wheels": environments.tools,
    "what builds wheels": environments.build_environment,
    "headers of Windows": partial(foreign.home, foreign.WINDOWS),
    "headers of macOS": partial(foreign.home, foreign.MACOS),
}


def main() -> None:
    with ThreadPoolExecutor(len(WANTED)) as threads:
        for line in threads.map(fetched, WANTED):
            print(line, flush=True)


def fetched(name: str) -> str:
    try:
        WANTED[name]()
    except (third_party.NotAvailable, environments.NotAvailable) as reason:
        return f"not to be had: {name}: {reason}"
    return f"there: {name}"


if __name__ == "__main__":
    main()
