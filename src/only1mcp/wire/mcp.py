"""What MCP says, as tables: revisions, methods, reserved `_meta` keys, header names, cacheable results."""

from __future__ import annotations

from enum import Enum
from typing import Final

# MCP "Versioning". The handshake era opens with `initialize`; the stateless era carries everything in each request.
HANDSHAKE_REVISIONS: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
STATELESS_REVISIONS: Final = ("2026-07-28",)
LATEST_HANDSHAKE: Final = HANDSHAKE_REVISIONS[0]
LATEST_STATELESS: Final = STATELESS_REVISIONS[0]
# The only revision in which messages may come many at a time.
BATCH_REVISION: Final = "2025-03-26"
# What a request without MCP-Protocol-Version is taken for (2025-11-25 transports, "Protocol Version Header").
ASSUMED_REVISION: Final = "2025-03-26"


class Era(Enum):
    HANDSHAKE = "handshake"
    STATELESS = "stateless"


# A member costs more to look up in its class than the comparison with it.
HANDSHAKE: Final = Era.HANDSHAKE
STATELESS: Final = Era.STATELESS


def era_of(revision: str) -> Era:
    """Return the era of a revision; one we do not know belongs to the stateless era, whose checks refuse it."""
    return HANDSHAKE if revision in HANDSHAKE_REVISIONS else STATELESS


META_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
META_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
META_CLIENT_INFO: Final = "io.modelcontextprotocol/clientInfo"
META_LOG_LEVEL: Final = "io.modelcontextprotocol/logLevel"
# What belongs to a task of 2025-11-25 names it under this key; the tasks of 2026-07-28 are another thing.
META_RELATED_TASK: Final = "io.modelcontextprotocol/related-task"
META_SERVER_INFO: Final = "io.modelcontextprotocol/serverInfo"
# Keys of the stateless era that mean nothing to a backend of the handshake era.
STATELESS_REQUEST_META: Final = (META_VERSION, META_CAPABILITIES, META_CLIENT_INFO, META_LOG_LEVEL)

# MCP 2026-07-28 error codes (schema.ts).
HEADER_MISMATCH: Final = -32020
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022
# Handshake era only.
RESOURCE_NOT_FOUND: Final = -32002
URL_ELICITATION_REQUIRED: Final = -32042

# Methods that exist in the handshake era alone; in the stateless era they are unknown methods.
HANDSHAKE_ONLY: Final = frozenset(
    {"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"}
)
LIST_METHODS: Final = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}
# The extensions that are relayed. Tasks add three methods, each of which names its task in `params.taskId`.
TASKS_EXTENSION: Final = "io.modelcontextprotocol/tasks"
TASK_METHODS: Final = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})
# The same of revision 2025-11-25, where tasks are a capability and experimental. `tasks/list` is not among them.
HANDSHAKE_TASK_METHODS: Final = frozenset({"tasks/get", "tasks/result", "tasks/cancel"})
UI_EXTENSION: Final = "io.modelcontextprotocol/ui"
UI_SETTINGS: Final = {"mimeTypes": ["text/html;profile=mcp-app"]}
# Which member of params names what the request is about; it is also what Mcp-Name mirrors.
NAMED_BY: Final = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    **dict.fromkeys(sorted(TASK_METHODS), "taskId"),
}
CAPABILITY_OF: Final = {
    "tools/list": "tools",
    "tools/call": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resources",
    "resources/read": "resources",
    "prompts/list": "prompts",
    "prompts/get": "prompts",
    "completion/complete": "completions",
}
# Results that must carry ttlMs and cacheScope in the stateless era (2026-07-28 "Caching").
CACHEABLE: Final = frozenset({"server/discover", "resources/read", *LIST_METHODS})

HEADER_VERSION: Final = b"mcp-protocol-version"
HEADER_SESSION: Final = b"mcp-session-id"
HEADER_METHOD: Final = b"mcp-method"
HEADER_NAME: Final = b"mcp-name"
HEADER_PARAM_PREFIX: Final = b"mcp-param-"


def negotiate(requested: str) -> str:
    """Return the revision to answer `initialize` with: the requested one if we have it, else our latest."""
    return requested if requested in HANDSHAKE_REVISIONS else LATEST_HANDSHAKE
