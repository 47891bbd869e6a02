"""The listener, as its connections see it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

from only1mcp.errors import Only1MCPError
from only1mcp.frontend.http_exchange import Application
from only1mcp.frontend.letterhead import Letterhead
from only1mcp.frontend.limits import Limits, Timeouts

if TYPE_CHECKING:
    from only1mcp.frontend.connection import Connection


class Admission(enum.Enum):
    """What becomes of a connection that was just accepted."""

    SERVE = "serve"
    REFUSE = "refuse"  # with an answer that says why
    DROP = "drop"  # too many already, even of those that are being refused


class Owner(Protocol):
    """What a connection asks of its listener, and tells it."""

    @property
    def app(self) -> Application: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def timeouts(self) -> Timeouts: ...

    def admit(self, connection: Connection) -> Admission: ...

    def forget(self, connection: Connection) -> None:
        """The connection is closed and its last exchange is finished."""

    def refused(self, peer: str, error: Only1MCPError) -> None:
        """A client is answered with `error` although there is no exchange."""

    @property
    def letterhead(self) -> Letterhead: ...
