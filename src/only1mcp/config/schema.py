"""What a configuration holds: one frozen value, one field per key of the file, defaults included.

The loader fills these from YAML, environment and flags and checks every constraint written here; nobody else needs to
check again. A Struct built by hand (in a test, say) is not checked. A field of type `Secret | None` holds what the
`*_env` or `*_file` key beside it names and cannot be written in the file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from only1mcp.config.secret import Secret

__all__ = [
    "HTTP_KEYS",
    "JWT",
    "TLS",
    "Admin",
    "ApiKey",
    "Auth",
    "BackendAuth",
    "BackendConfig",
    "Cache",
    "CachedItem",
    "CircuitBreaker",
    "Config",
    "Health",
    "Instances",
    "Limits",
    "LoadBalancer",
    "Logging",
    "Metrics",
    "Output",
    "Proxy",
    "RateLimit",
    "STDIO_KEYS",
    "Secret",
    "State",
    "Timeouts",
    "ToolRules",
]

# A year bounds every duration: `.inf` and slips of the unit are mistakes, not settings.
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Text = Annotated[str, Meta(min_length=1)]
Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,47}$")]
EnvName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
UrlPath = Annotated[str, Meta(pattern=r"^/[A-Za-z0-9._~/-]*$")]
HttpUrl = Annotated[str, Meta(pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s]+$")]
Host = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:%-]+$")]
ToolName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


# The keys of a backend that have a meaning for only some transports.
STDIO_KEYS = ("command", "args", "env", "cwd")
HTTP_KEYS = ("url", "headers", "auth")


class TLS(Struct, frozen=True, forbid_unknown_fields=True):
    """`enabled` needs `cert` and `key` (PEM files)."""

    enabled: bool = False
    cert: Text | None = None
    key: Text | None = None
    client_ca: Text | None = None
    min_version: Literal["1.2", "1.3"] = "1.2"


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What a client may make us hold: sizes of one message, how many at a time."""

    max_body_mb: Annotated[int, Meta(ge=1, le=1024)] = 10
    max_header_kb: Annotated[int, Meta(ge=1, le=1024)] = 32
    max_connections: Count = 10_000
    max_in_flight: Count = 2_000
    max_depth: Annotated[int, Meta(ge=8, le=512)] = 64


class Timeouts(Struct, frozen=True, forbid_unknown_fields=True):
    """How long we wait for a client: its head, its body, its next request, its answers, and for all at shutdown."""

    header_s: Seconds = 10.0
    request_s: Seconds = 60.0
    idle_s: Seconds = 75.0
    drain_s: Seconds = 30.0
    input_s: Seconds = 300.0


class CachedItem(Struct, frozen=True, forbid_unknown_fields=True):
    """Opt-in of one tool or prompt to the cache; without `ttl_seconds` the cache's own holds."""

    ttl_seconds: Seconds | None = None


class Cache(Struct, frozen=True, forbid_unknown_fields=True):
    """`ttl_seconds` is the ceiling of what a backend's hints may ask for, and the default of `tools` and `prompts`.

    Results of `tools` are kept where the backend says, too, that they are read-only; the keys are names as clients
    know them. Prompts that are not named are kept as their hints say.
    """

    enabled: bool = True
    ttl_seconds: Seconds = 300.0
    max_size_mb: Count = 1024
    tools: dict[str, CachedItem] = {}
    prompts: dict[str, CachedItem] = {}


class LoadBalancer(Struct, frozen=True, forbid_unknown_fields=True):
    """How an endpoint of a group is picked; `hash_key` and `virtual_nodes` are for consistent_hash.

    A virtual node is a point on the ring; an endpoint has `virtual_nodes` of them for each ten of its weight.
    """

    algorithm: Literal["round_robin", "least_connections", "random", "weighted_random", "consistent_hash"] = (
        "consistent_hash"
    )
    virtual_nodes: Annotated[int, Meta(ge=1, le=10_000)] = 200
    hash_key: Literal["auto", "session", "client", "tool", "arguments"] = "auto"


class Health(Struct, frozen=True, forbid_unknown_fields=True):
    """Active checks of the backends."""

    interval_seconds: Seconds = 10.0
    timeout_seconds: Seconds = 5.0
    failure_threshold: Count = 3
    success_threshold: Count = 2


class CircuitBreaker(Struct, frozen=True, forbid_unknown_fields=True):
    """When an endpoint that fails real calls is left alone, and for how long."""

    failure_threshold: Count = 5
    open_seconds: Seconds = 30.0
    half_open_requests: Count = 3


class Proxy(Struct, frozen=True, forbid_unknown_fields=True):
    """The listener for clients and everything that holds for all backends. Port 0 takes a free port."""

    host: Host = "127.0.0.1"
    port: Port = 8080
    path: UrlPath = "/mcp"
    workers: Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"] = 1
    naming: Literal["auto", "prefixed", "bare"] = "auto"
    allowed_hosts: tuple[Annotated[str, Meta(pattern=r"^[^\s/@?#*]+$")], ...] = ()
    allowed_origins: tuple[Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://[^\s/@?#]+$")], ...] = ()
    tls: TLS = TLS()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    cache: Cache = Cache()
    load_balancer: LoadBalancer = LoadBalancer()
    health: Health = Health()
    circuit_breaker: CircuitBreaker = CircuitBreaker()


class JWT(Struct, frozen=True, forbid_unknown_fields=True):
    """HS256 tokens. Without `secret_env` and `secret_file` the secret is that of ONLY1MCP_JWT_SECRET.

    In a loaded configuration `secret` is always set, 32 bytes or more (RFC 7518 section 3.2).
    """

    secret_env: EnvName | None = None
    secret_file: Text | None = None
    expiry_hours: Annotated[float, Meta(gt=0, le=87_600)] = 24.0
    jwks_url: HttpUrl | None = None
    issuer: Text | None = None
    audience: Text | None = None
    scopes: tuple[Text, ...] = ()
    secret: Secret | None = None


class ApiKey(Struct, frozen=True, forbid_unknown_fields=True):
    """One client's key, known only by its SHA-256: the loader fills `key_sha256` (lower-case hex) from env or file.

    `tools` None means every tool, an empty list none.
    """

    name: Identifier
    key_env: EnvName | None = None
    key_file: Text | None = None
    key_sha256: Annotated[str, Meta(pattern=r"^[0-9A-Fa-f]{64}$")] | None = None
    scopes: tuple[Text, ...] = ()
    tools: tuple[Text, ...] | None = None


class RateLimit(Struct, frozen=True, forbid_unknown_fields=True):
    """What one principal, or one address without credentials, may send."""

    requests_per_minute: Count = 60
    burst: Count = 10


class Auth(Struct, frozen=True, forbid_unknown_fields=True):
    """Who may call. An absent `jwt` or `rate_limit` is None and means off; `rate_limit: {}` is on with its defaults."""

    jwt: JWT | None = None
    api_keys: tuple[ApiKey, ...] = ()
    rate_limit: RateLimit | None = None
    allow_anonymous: bool = False


class Output(Struct, frozen=True, forbid_unknown_fields=True):
    """One place that logs go to. `file` and `access` need a `path` and rotate by size."""

    type: Literal["stdout", "file", "access", "audit"]
    path: Text | None = None
    max_size_mb: Count = 100
    max_backups: Annotated[int, Meta(ge=0, le=10_000)] = 7


class Logging(Struct, frozen=True, forbid_unknown_fields=True):
    """What is logged, in which shape, and where to."""

    level: Literal["debug", "info", "warn", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"
    outputs: tuple[Output, ...] = (Output(type="stdout"),)


class Metrics(Struct, frozen=True, forbid_unknown_fields=True):
    """The listener that Prometheus scrapes."""

    enabled: bool = True
    host: Host = "127.0.0.1"
    port: Port = 9090
    path: UrlPath = "/metrics"


class Admin(Struct, frozen=True, forbid_unknown_fields=True):
    """The admin API; without `api_key_env` and `api_key_file` its key is that of ONLY1MCP_ADMIN_API_KEY, if set."""

    api_key_env: EnvName | None = None
    api_key_file: Text | None = None
    host: Host | None = None
    port: Port | None = None
    allow_commands: tuple[Text, ...] = ()
    api_key: Secret | None = None


class State(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a fleet shares its state; None keeps it in this process.

    With `key` the ids of tasks are sealed, so that they hold in every process that has it; without it they end with the
    process.
    """

    url: Annotated[str, Meta(pattern=r"^(redis|rediss|unix)://\S+$")] | None = None
    key_env: EnvName | None = None
    key_file: Text | None = None
    key: Secret | None = None


class BackendAuth(Struct, frozen=True, forbid_unknown_fields=True):
    """How we identify ourselves to a backend; in a loaded configuration `token` is always set."""

    type: Literal["bearer"]
    token_env: EnvName | None = None
    token_file: Text | None = None
    token: Secret | None = None


class Instances(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether all clients share one child (or session with an HTTP server), or each session has its own.

    Of its own ones a backend has at most `max` at a time; those that are idle for `idle_seconds` are ended.
    """

    mode: Literal["shared", "per_session"] = "shared"
    max: Annotated[int, Meta(ge=1, le=1000)] = 8
    idle_seconds: Seconds = 300.0


class ToolRules(Struct, frozen=True, forbid_unknown_fields=True):
    """Which tools of a backend are offered (an empty `allow` means all), and new names for some (old: new)."""

    allow: tuple[Text, ...] = ()
    deny: tuple[Text, ...] = ()
    rename: dict[Text, ToolName] = {}


class BackendConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of `servers`. stdio has command, args, env, cwd; http and sse have url, headers, auth.

    `name` and `group` default to the id. `shared_cache` takes the backend's word for which results are public: one
    client's may then be given to others.
    """

    id: Identifier
    transport: Literal["stdio", "http", "sse"]
    name: str = ""
    enabled: bool = True
    group: Identifier = ""
    weight: Annotated[int, Meta(ge=0, le=100)] = 100
    command: Text | None = None
    args: tuple[str, ...] = ()
    env: dict[EnvName, str] = {}
    cwd: Text | None = None
    instances: Instances = Instances()
    url: HttpUrl | None = None
    auth: BackendAuth | None = None
    headers: dict[Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")], str] = {}
    timeout_ms: Annotated[int, Meta(ge=1, le=86_400_000)] = 60_000
    retries: Annotated[int, Meta(ge=0, le=10)] = 0
    health_check_url: Annotated[str, Meta(pattern=r"^(internal://ping|https?://\S+)$")] | None = None
    shared_cache: bool = False
    tools: ToolRules = ToolRules()

    def __post_init__(self) -> None:
        if not self.name:
            force_setattr(self, "name", self.id)
        if not self.group:
            force_setattr(self, "group", self.id)

    def __repr__(self) -> str:
        # env, headers, args and url often carry credentials; a repr ends up in logs and tracebacks.
        return f"BackendConfig(id={self.id!r}, transport={self.transport!r}, ...)"


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration. Loading applies the chosen profile and `servers_dir`, and leaves `profiles` empty."""

    version: Literal["1.0"]
    proxy: Proxy = Proxy()
    auth: Auth = Auth()
    logging: Logging = Logging()
    metrics: Metrics = Metrics()
    admin: Admin = Admin()
    state: State = State()
    profiles: dict[Identifier, dict[str, Any]] = {}
    servers_dir: Text | None = None
    servers: tuple[BackendConfig, ...] = ()
