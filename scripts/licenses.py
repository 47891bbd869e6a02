"""Refuses what may not be distributed with the package: `python -m scripts.licenses` checks every licence.

Looked at are the run-time dependencies, theirs, and Cython, of which compiled modules contain parts, as they are
installed in this environment; those for other systems are not installed here and are named. A licence that is not in
`ALLOWED` fails, and so does one that cannot be read from the metadata: what is not known is not allowed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGE = "only1mcp"
# What ends up in the compiled modules.
COMPILED_IN = ("cython",)

# Licences that ask for no more than their text to be kept, and MPL-2.0, which asks for changes to its own files only.
ALLOWED = frozenset(
    [
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "MIT",
        "MIT-0",
        "MPL-2.0",
        "PSF-2.0",
        "Unlicense",
        "Zlib",
    ]
)
# How metadata older than SPDX expressions say it.
SPOKEN = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
MEND = (
    "to mend: take another package; or, where the licence only asks for its text to be kept, add it to ALLOWED in"
    " scripts/licenses.py with the line in docs/dependencies.md"
)


@dataclass(frozen=True)
class Licensed:
    """A package and its licence as an SPDX expression, or why there is none."""

    name: str
    version: str
    expression: str | None
    problem: str | None


def main() -> None:
    found, absent = closure(PACKAGE, *COMPILED_IN)
    judged = [judge(one) for one in found if canonicalize_name(one.name) != PACKAGE]
    for one in judged:
        print(f"{'FAILED' if one.problem else 'ok':6}  {one.name} {one.version}: {one.problem or one.expression}")
    if absent:
        print(f"not for this system, so not looked at: {', '.join(sorted(absent))}")
    if any(one.problem for one in judged):
        sys.exit(MEND)


def closure(*roots: str) -> tuple[list[Distribution], set[str]]:
    """Return what the packages need to run, themselves included, and the names of what only other systems need."""
    found: dict[str, Distribution] = {}
    absent: set[str] = set()
    waiting = [Requirement(root) for root in roots]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in found and not wanted.extras:
            continue
        try:
            found[name] = distribution(wanted.name)
        except PackageNotFoundError:
            sys.exit(f"{wanted.name} is needed and not installed here: make build")
        for text in found[name].requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
                waiting.append(needed)
            elif "extra" not in str(needed.marker):
                absent.add(canonicalize_name(needed.name))
    return [found[name] for name in sorted(found)], absent - found.keys()


def judge(package: Distribution) -> Licensed:
    expression = expression_of(package)
    if expression is None:
        problem: str | None = "the metadata name no licence that can be read"
    elif not is_allowed(expression):
        problem = f"{expression} is not allowed"
    else:
        problem = None
    return Licensed(package.name, package.version, expression, problem)


def expression_of(package: Distribution) -> str | None:
    """Return the licence as an SPDX expression: what is stated as one, else what all statements together say."""
    metadata = package.metadata
    stated = metadata.get("License-Expression") or metadata.get("License", "")
    for text in (stated, SPOKEN.get(stated.strip())):
        if text:
            try:
                return canonicalize_license_expression(text.strip())
            except InvalidLicenseExpression:
                pass
    classified = [
        line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", ()) if line.startswith("License :: OSI")
    ]
    # Several may mean all or any of them; all is what does not err.
    if classified and all(one in SPOKEN for one in classified):
        return " AND ".join(sorted({SPOKEN[one] for one in classified}))
    return None


def is_allowed(expression: str) -> bool:
    """Whether a canonical SPDX expression can be met with what is in `ALLOWED`; a licence WITH an exception cannot."""
    words = expression.replace("(", " ( ").replace(")", " ) ").split()
    terms: list[str] = []
    for number, word in enumerate(words):
        if word == "WITH":
            terms[-1] = "False"
        elif word in ("AND", "OR", "(", ")"):
            terms.append(word.lower())
        elif number == 0 or words[number - 1] != "WITH":
            terms.append(str(word in ALLOWED))
    return bool(eval(" ".join(terms)))


if __name__ == "__main__":
    main()
