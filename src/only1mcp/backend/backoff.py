"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import random
from typing import Final

# A crash loop must not become a spawn loop: the wait doubles from the first to the last value, with jitter.
FIRST_S: Final = 0.5
LAST_S: Final = {"stdio": 30.0, "http": 10.0, "sse": 10.0}


def wait_s(transport: str, failures: int) -> float:
    """Return the seconds to wait after so many failures in a row, one or more."""
    wait: float = min(LAST_S[transport], FIRST_S * 2.0 ** min(failures - 1, 16))
    return wait * random.uniform(0.8, 1.2)
