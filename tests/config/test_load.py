"""Loading as an operator meets it: files, profiles, environment, credentials; every mistake at once, with its place."""

import hashlib
import os
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from only1mcp.config.load import Loaded, load
from only1mcp.config.schema import BackendConfig, Config, Secret
from only1mcp.errors import ConfigError

SECRET = "s" * 32
HTTP = "{id: a, transport: http, url: 'http://h/mcp'}"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str, name: str = "c.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def loaded(place: Path, body: str, env=None, flags=None, **kwargs) -> Loaded:
    return load(write(place, 'version: "1.0"\n' + body), env or {}, flags or {}, **kwargs)


def problems(place: Path, body: str, env=None, flags=None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(place, body, env, flags)
    prefix = f"{place / 'c.yaml'}:"
    return [line.removeprefix(prefix) for line in caught.value.problems]


def only_problem(place: Path, body: str, env=None, flags=None) -> str:
    found = problems(place, body, env, flags)
    assert len(found) == 1, found
    return found[0]


# The file of the requirements.


OPERATIONS = """
version: "1.0"

proxy:
  host: "0.0.0.0"
  port: 8080
  tls:
    enabled: true
    cert: "/etc/only1mcp/certs/fullchain.pem"
    key: "/etc/only1mcp/certs/privkey.pem"
  cache:
    enabled: true
    ttl_seconds: 300
    max_size_mb: 1024
  load_balancer:
    algorithm: "consistent_hash"
    virtual_nodes: 200
  health:
    interval_seconds: 10
    timeout_seconds: 5
    failure_threshold: 3
    success_threshold: 2

auth:
  jwt:
    secret_env: "ONLY1MCP_JWT_SECRET"
    expiry_hours: 24
  rate_limit:
    requests_per_minute: 60
    burst: 10

logging:
  level: "info"
  format: "json"
  outputs:
    - type: "stdout"
    - type: "file"
      path: "/var/log/only1mcp/only1mcp.log"
      max_size_mb: 100
      max_backups: 7

metrics:
  enabled: true
  port: 9090
  path: "/metrics"

servers:
  - id: "filesystem-prod"
    name: "Production Filesystem"
    transport: "stdio"
    command: "/usr/bin/python3"
    args: ["-m", "only1mcp.demo.stdio"]
    health_check_url: "internal://ping"

  - id: "web-search-prod"
    name: "Production Web Search"
    transport: "http"
    url: "http://127.0.0.1:8931/mcp"
    auth:
      type: "bearer"
      token_env: "SEARCH_API_KEY"
    timeout_ms: 5000
    retries: 3
"""
OPERATIONS_ENV = {
    "ONLY1MCP_ENV": "production",
    "ONLY1MCP_LOG_LEVEL": "info",
    "ONLY1MCP_TLS_CERT": "/etc/only1mcp/certs/fullchain.pem",
    "ONLY1MCP_TLS_KEY": "/etc/only1mcp/certs/privkey.pem",
    "ONLY1MCP_JWT_SECRET": SECRET,
    "ONLY1MCP_METRICS_PORT": "9090",
    "ONLY1MCP_ADMIN_API_KEY": "admin-key",
    "SEARCH_API_KEY": "search-key",
}


def test_the_operators_file_loads_key_for_key(place):
    result = load(write(place, OPERATIONS), OPERATIONS_ENV, {})
    config = result.config
    assert (config.proxy.host, config.proxy.port) == ("0.0.0.0", 8080)
    assert config.proxy.tls.enabled
    assert config.proxy.tls.key == "/etc/only1mcp/certs/privkey.pem"
    assert (config.proxy.cache.ttl_seconds, config.proxy.cache.max_size_mb) == (300, 1024)
    assert config.proxy.load_balancer.virtual_nodes == 200
    assert config.auth.jwt.secret.reveal() == SECRET
    assert (config.auth.rate_limit.requests_per_minute, config.auth.rate_limit.burst) == (60, 10)
    assert [output.type for output in config.logging.outputs] == ["stdout", "file"]
    assert config.admin.api_key.reveal() == "admin-key"
    files, search = config.servers
    assert (files.id, files.name, files.group, files.weight) == (
        "filesystem-prod",
        "Production Filesystem",
        files.id,
        100,
    )
    assert files.args == ("-m", "only1mcp.demo.stdio")
    assert (search.timeout_ms, search.retries, search.auth.token.reveal()) == (5000, 3, "search-key")
    assert [notice.partition(": accepted")[0] for notice in result.notices] == [
        "proxy.health",
        "auth.jwt.expiry_hours",
        "servers[0].health_check_url",
        "servers[1].retries",
    ]


def test_the_file_of_the_strategy_itself_loads(place):
    source = Path(__file__).parents[2].parent / "shared" / "reference" / "000_af31649f9ab0a2ae.txt"
    if not source.exists():
        pytest.skip("the operations strategy is not beside this checkout")
    block = re.search(r"```yaml\n(# /etc/only1mcp/config\.production\.yaml.*?)```", source.read_text(), re.DOTALL)
    assert block is not None
    assert load(write(place, block[1]), OPERATIONS_ENV, {}).config.servers[1].id == "web-search-prod"


def test_defaults(place):
    config = loaded(place, "").config
    assert config == Config(version="1.0")
    assert config.auth.jwt is None
    assert config.auth.rate_limit is None


def test_sections_without_content_mean_their_defaults(place):
    body = "proxy:\n  tls:\n  allowed_hosts:\nauth:\n  jwt:\n  rate_limit:\nservers:\nprofiles:\nstate: {url: }"
    assert loaded(place, body).config == Config(version="1.0")


def test_an_empty_rate_limit_is_on(place):
    limit = loaded(place, "auth: {rate_limit: {}}").config.auth.rate_limit
    assert (limit.requests_per_minute, limit.burst) == (60, 10)


# Mistakes.


def test_every_mistake_is_told_at_once_in_order(place):
    body = f"""prox: {{}}
proxy:
  port: 99999
  path: mcp
  workers: two
  limits: {{max_bodymb: 3, max_depth: "64"}}
  timeouts: {{header_s: .nan, idle_s: "${{IDLE}}"}}
  tls: {{min_version: 1.2}}
logging: {{level: verbose}}
servers:
  - {HTTP}
  - {{id: a b, transport: stdio, comand: npx}}
  - {{transport: stdio, command: npx, args: [1]}}
"""
    identifier = "1 to 48 letters, digits, '_' or '-', beginning with a letter or digit"
    assert problems(place, body, {"ONLY1MCP_METRICS_PORT": "abc"}) == [
        "2:1: prox: unknown key, did you mean proxy?",
        "4:9: proxy.port: expected an integer from 0 to 65535, got the number 99999",
        "5:9: proxy.path: expected a path that begins with '/', got 'mcp'",
        "6:12: proxy.workers: expected an integer from 1 to 1024 or auto, got 'two'",
        "7:12: proxy.limits.max_bodymb: unknown key, did you mean max_body_mb?",
        "7:38: proxy.limits.max_depth: expected an integer from 8 to 512, got '64'",
        "8:24: proxy.timeouts.header_s: expected a number above 0, at most 31536000, got the number .nan",
        "8:38: proxy.timeouts.idle_s: the environment variable IDLE is not set and has no default",
        "9:22: proxy.tls.min_version: expected one of 1.2 or 1.3, got the number 1.2 (put it in quotes)",
        "10:18: logging.level: expected one of debug, error, info, warn or warning, got 'verbose'",
        f"13:10: servers[1].id: expected {identifier}, got 'a b'",
        "13:33: servers[1].comand: unknown key, did you mean command?",
        f"14:5: servers[2]: the key id is missing ({identifier})",
        "14:45: servers[2].args[0]: expected text, got a number (put it in quotes)",
        "ONLY1MCP_METRICS_PORT: metrics.port: expected an integer from 0 to 65535, got 'abc'",
    ]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("proxy: [a]", "proxy: expected a mapping, got a list"),
        ("proxy: 3", "proxy: expected a mapping, got the number 3"),
        ("servers: {a: b}", "servers: expected a list, got a mapping"),
        ("servers: [3]", "servers[0]: expected a mapping, got the number 3"),
        ("servers: [null]", "servers[0]: expected a mapping, got nothing"),
        ("proxy: {port: }", "proxy.port: expected an integer from 0 to 65535, got nothing"),
        ("proxy: {port: -1}", "got the number -1"),
        ("proxy: {port: 80.5}", "got the number 80.5"),
        ("proxy: {port: yes}", "got yes"),
        ("proxy: {port: '8080'}", "got '8080'"),
        ("proxy: {port: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF}", "got the number 0xFFFF"),
        ("proxy: {host: ''}", "proxy.host: expected an IP address or host name"),
        ('proxy: {host: "127.0.0.1\\n"}', "expected an IP address or host name, got '127.0.0.1\\n'"),
        ("proxy: {workers: 0}", "from 1 to 1024 or auto"),
        ("proxy: {naming: Auto}", "expected one of auto, bare or prefixed, got 'Auto'"),
        ("proxy: {timeouts: {idle_s: .inf}}", "got the number .inf"),
        ("proxy: {timeouts: {idle_s: 0}}", "above 0"),
        ("proxy: {cache: {enabled: 'yes'}}", "expected true or false, got 'yes'"),
        ("proxy: {cache: {tools: {x: true}}}", "proxy.cache.tools.x: expected a mapping, got true"),
        ("proxy: {path: /health}", "which is ours"),
        ("proxy: {path: /}", "which is ours"),
        ("proxy: {path: '/a?b'}", "expected a path"),
        ("proxy: {allowed_origins: [app.example.com]}", "expected an origin"),
        ("proxy: {allowed_hosts: ['*']}", "expected a host"),
        ("proxy: {tls: {cert: a.pem}}", "proxy.tls: the key key is missing"),
        ("proxy: {tls: {client_ca: ca.pem}}", "client certificates cannot be checked"),
        ("proxy: {load_balancer: {algorithm: ring}}", "expected one of consistent_hash"),
        ("metrics: {port: 8080}", "expected different ports for proxy and metrics"),
        ("state: {url: 'http://x'}", "expected a redis://"),
        ("auth: {jwt: {jwks_url: 'https://x/jwks'}}", "cannot be checked against a JWKS"),
        ("auth: {jwt: {secret: abc}}", "a secret is not written in the file, use secret_env or secret_file"),
        ("auth: {rate_limit: {burst: 0}}", "from 1 to"),
        ("logging: {outputs: [{type: audit, path: a}]}", "an audit log is not kept"),
        ("logging: {outputs: [{type: file}]}", "the key path is missing"),
        ("logging: {outputs: [{type: stdout, path: x}]}", "has no meaning for type stdout"),
        ("logging: {outputs: [{type: file, path: x}, {type: access, path: x}]}", "the same file as logging.outputs[0]"),
        ("Proxy: {}", "did you mean proxy?"),
        ("maxBodyMb: 3", "unknown key, expected version, proxy"),
        ('"\\e[31m": 3', "['\\x1b[31m']: unknown key"),
        ("servers: [{id: a, transport: ssh}]", "expected one of http, sse or stdio"),
        ("servers: [{id: a, transport: stdio}]", "the key command is missing"),
        ("servers: [{id: a, transport: http}]", "the key url is missing"),
        ("servers: [{id: a, transport: sse}]", "the key url is missing"),
        ("servers: [{id: a, transport: stdio, command: x, url: 'http://h'}]", "has no meaning for transport stdio"),
        ("servers: [{id: a, transport: http, url: 'http://h', env: {A: b}}]", "has no meaning for transport http"),
        ("servers: [{id: a, transport: stdio, command: x, env: {A: 1}}]", "got a number (put it in quotes)"),
        (
            "servers: [{id: a, transport: stdio, command: x, env: {A-B: c}}]",
            "the name of an environment variable as key",
        ),
        ('servers: [{id: a, transport: stdio, command: "x\\0y"}]', "expected text"),
        ("servers: [{id: a, transport: stdio, command: x, weight: 101}]", "from 0 to 100"),
        ("servers: [{id: a, transport: stdio, command: x, tools: {rename: {b: 'a b'}}}]", "expected a tool name"),
        ("servers: [{id: a, transport: stdio, command: x, tools: {rename: {b: x, c: x}}}]", "got that of 'b'"),
        (f"servers: [{HTTP}, {HTTP}]", "servers[1].id: already taken by servers[0]"),
        ("profiles: {a: [1]}", "profiles.a: expected a mapping, got a list"),
        ("profiles: {a: {proxy: {prt: 1}}}", "profiles.a.proxy.prt: unknown key, did you mean port?"),
        ("profiles: {a: {version: '1.0'}}", "cannot be part of a profile"),
        ("servers_dir: nowhere", "no such file or directory"),
        ("proxy: {port: !!int x}", "got 'x' as int"),
        ("a: 1\na: 2", "written twice"),
    ],
)
def test_one_mistake(place, body, problem):
    found = problems(place, body)
    assert any(problem in line for line in found), found
    assert all(re.match(r"[0-9]+:[0-9]+: ", line) for line in found), found


@pytest.mark.parametrize(
    "url",
    [
        "http://u:p@h/mcp",
        "http://u@h/mcp",
        "http:///mcp",
        "http://h:99999/",
        "http://h:0/",
        "http://h:x/",
        "http://[::1/mcp",
        "http://h/#frag",
        "http://h/é",
        "http://h\\@evil/",
        "ftp://h/",
        "//h/mcp",
        "h.example",
        "http://h/a b",
    ],
)
def test_urls_that_cannot_be_used_are_refused_without_being_repeated(place, url):
    found = only_problem(place, f"servers: [{{id: a, transport: http, url: {url!r}}}]")
    assert "servers[0].url: expected" in found
    assert url not in found


@pytest.mark.parametrize("url", ["http://h", "https://h:8443/mcp?x=y", "HTTP://[::1]:80/mcp"])
def test_urls_that_can(place, url):
    assert loaded(place, f"servers: [{{id: a, transport: http, url: {url!r}}}]").config.servers[0].url == url


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ("{Host: x}", "set by the proxy itself"),
        ("{mcp-session-id: x}", "set by the proxy itself"),
        ("{Mcp-Param-X: x}", "set by the proxy itself"),
        ("{A: b, a: c}", "given twice"),
        ('{A: "b\\nX: y"}', "visible ASCII"),
        ("{A: é}", "visible ASCII"),
        ("{A: ' x'}", "without blanks"),
        ("{'A B': x}", "the name of an HTTP header"),
        ("{'': x}", "the name of an HTTP header"),
    ],
)
def test_headers(place, headers, problem):
    found = only_problem(place, f"servers: [{{id: a, transport: http, url: 'http://h', headers: {headers}}}]")
    assert problem in found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ": the file is empty"),
        ("# nothing\n", ": the file is empty"),
        ("- a\n", "got a list"),
        ("hello", "got 'hello'"),
        ("proxy: {}", "the key version is missing"),
        ("version: 1.0", "expected \"1.0\", got '1.0' without quotes"),
        ("version: '2.0'", "expected \"1.0\", got '2.0'"),
        ("version: ", "got nothing"),
        ("version: [1]", "got no text"),
        ("version: true", "got 'true'"),
    ],
)
def test_files_that_are_no_configuration(place, text, problem):
    with pytest.raises(ConfigError, match=re.escape(problem)):
        load(write(place, text), {}, {})


@pytest.mark.parametrize("version", ["'0.3'", "0.3", "0", "v0.9.1"])
def test_files_of_version_0_are_told_from_typos(place, version):
    with pytest.raises(ConfigError) as caught:
        load(write(place, f"version: {version}\ncompletely: different"), {}, {})
    assert len(caught.value.problems) == 1
    assert "rewritten by hand" in caught.value.problems[0]


def test_the_rest_is_checked_when_the_version_is_wrong(place):
    with pytest.raises(ConfigError) as caught:
        load(write(place, "version: '3'\nproxi: {}"), {}, {})
    assert len(caught.value.problems) == 2


def test_a_directory_and_a_file_without_permission(place):
    with pytest.raises(ConfigError, match="got a directory"):
        load(place, {}, {})
    path = write(place, 'version: "1.0"')
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(ConfigError, match="permission denied"):
        load(path, {}, {})


# Exposure.


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com", "127.0.0.1.example.com"])
def test_no_listening_beyond_loopback_without_authentication(place, host):
    found = only_problem(place, f"proxy: {{host: '{host}'}}")
    assert found.startswith("2:15: proxy.host: ")
    assert "allow_anonymous: true" in found


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_none(place, host):
    assert loaded(place, f"proxy: {{host: '{host}'}}").config.proxy.host == host


def test_exposure_counts_flags_and_environment(place):
    assert "command line: proxy.host" in problems(place, "", flags={"proxy.host": "0.0.0.0"})[0]
    assert "ONLY1MCP_HOST: proxy.host" in problems(place, "", {"ONLY1MCP_HOST": "0.0.0.0"})[0]


@pytest.mark.parametrize(
    ("auth", "env"),
    [
        ("auth: {allow_anonymous: true}", {}),
        ("auth: {jwt: {}}", {"ONLY1MCP_JWT_SECRET": SECRET}),
        ("", {"ONLY1MCP_JWT_SECRET": SECRET}),
        ("auth: {api_keys: [{name: a, key_env: K}]}", {"K": "key"}),
    ],
)
def test_authentication_allows_it(place, auth, env):
    assert loaded(place, "proxy: {host: 0.0.0.0}\n" + auth, env).config.proxy.host == "0.0.0.0"


# Variables.


def test_a_whole_variable_becomes_what_the_key_takes(place):
    body = """proxy:
  port: ${PORT}
  cache: {enabled: "${CACHE:-no}", ttl_seconds: "${TTL}"}
  workers: ${WORKERS:-AUTO}
state: {url: "${REDIS:-}"}
"""
    config = loaded(place, body, {"PORT": " 81 ", "TTL": "2.5"}).config
    assert (config.proxy.port, config.proxy.cache.enabled, config.proxy.cache.ttl_seconds) == (81, False, 2.5)
    assert config.proxy.workers == "auto"
    assert config.state.url is None


def test_a_part_of_a_value_stays_text(place):
    assert "got what ${P} holds" in only_problem(place, "proxy: {port: '8${P}'}", {"P": "1"})


def test_what_a_variable_holds_is_not_told(place):
    found = only_problem(place, "proxy: {port: '${P}'}", {"P": "hunter2"})
    assert "got what ${P} holds" in found
    assert "hunter2" not in found


def test_literal_dollar_brace(place):
    body = "servers: [{id: a, transport: stdio, command: sh, args: ['$${HOME} $$ $x']}]"
    assert loaded(place, body, {"HOME": "/root"}).config.servers[0].args == ("${HOME} $$ $x",)


def test_keys_are_not_expanded(place):
    assert "unknown key" in only_problem(place, "'${A}': 1", {"A": "proxy"})


# Credentials.


def test_secrets_from_variables_and_files(place):
    (place / "jwt").write_text(SECRET + "\n")
    (place / "token").write_text("tok\r\n")
    body = """auth:
  jwt: {secret_file: jwt, issuer: me}
  api_keys: [{name: a, key_env: K}, {name: b, key_sha256: "AA%s"}]
admin: {api_key_env: ADMIN}
state: {key_env: STATE}
servers: [{id: s, transport: http, url: 'http://h', auth: {type: bearer, token_file: token}}]
""" % ("0" * 62)
    config = loaded(place, body, {"K": "key", "ADMIN": "adm", "STATE": SECRET + SECRET}).config
    assert config.auth.jwt.secret == Secret(SECRET)
    assert config.auth.api_keys[0].key_sha256 == hashlib.sha256(b"key").hexdigest()
    assert config.auth.api_keys[1].key_sha256 == "aa" + "0" * 62
    assert config.servers[0].auth.token.reveal() == "tok"
    assert config.admin.api_key.reveal() == "adm"
    assert config.state.key.reveal() == SECRET + SECRET
    text = repr(config)
    assert SECRET not in text
    assert "'adm'" not in text


def test_the_systemd_credentials_directory_comes_first(place):
    (place / "jwt").write_text("x" * 40)
    write(place, SECRET, "credentials/jwt")
    env = {"CREDENTIALS_DIRECTORY": str(place / "credentials")}
    assert loaded(place, "auth: {jwt: {secret_file: jwt}}", env).config.auth.jwt.secret.reveal() == SECRET
    body = f"auth: {{jwt: {{secret_file: {place / 'jwt'}}}}}"
    assert loaded(place, body, env).config.auth.jwt.secret.reveal() == "x" * 40


@pytest.mark.parametrize(
    ("body", "env", "problem"),
    [
        ("auth: {jwt: {}}", {}, "expected secret_env or secret_file (or the environment variable ONLY1MCP_JWT_SECRET)"),
        ("auth: {jwt: {secret_env: S}}", {}, "auth.jwt.secret_env: the environment variable S is not set"),
        ("auth: {jwt: {secret_env: S}}", {"S": ""}, "the environment variable S is empty"),
        ("auth: {jwt: {secret_env: S}}", {"S": "short"}, "32 bytes or more (RFC 7518 section 3.2), got 5 bytes"),
        ("", {"ONLY1MCP_JWT_SECRET": "short"}, "32 bytes or more"),
        ("", {"ONLY1MCP_JWT_SECRET": ""}, "ONLY1MCP_JWT_SECRET is empty"),
        ("", {"ONLY1MCP_ADMIN_API_KEY": ""}, "ONLY1MCP_ADMIN_API_KEY is empty"),
        (
            "auth: {jwt: {secret_env: S, secret_file: f}}",
            {"S": SECRET},
            "expected only one of secret_env and secret_file",
        ),
        ("auth: {jwt: {secret_file: nowhere}}", {}, "cannot be read: no such file"),
        ("auth: {jwt: {secret_file: .}}", {}, "cannot be read: is a directory"),
        ("auth: {jwt: {secret_file: empty}}", {}, "is empty"),
        ("auth: {jwt: {secret_file: binary}}", {}, "is not UTF-8 text"),
        ("auth: {jwt: {secret_file: huge}}", {}, "too long for a secret"),
        ("auth: {api_keys: [{name: a}]}", {}, "expected key_env or key_file or key_sha256"),
        ("auth: {api_keys: [{name: a, key: abc}]}", {}, "use key_env or key_file"),
        ("auth: {api_keys: [{name: a, key_env: K, key_sha256: %s}]}" % ("ab" * 32), {"K": "k"}, "expected only one of"),
        ("auth: {api_keys: [{name: a, key_sha256: abc}]}", {}, "64 hexadecimal digits"),
        ("auth: {api_keys: [{name: a, key_env: K}, {name: a, key_env: L}]}", {"K": "k", "L": "l"}, "already taken by"),
        ("auth: {api_keys: [{name: a, key_env: K}, {name: b, key_env: K}]}", {"K": "k"}, "the same key as"),
        ("admin: {api_key_env: A}", {}, "the environment variable A is not set"),
        ("state: {key_env: A}", {}, "state.key_env: the environment variable A is not set"),
        ("state: {key_env: A}", {"A": "short"}, "state.key_env: expected a secret of 32 bytes or more, got 5 bytes"),
        ("state: {key: abc}", {}, "use key_env or key_file"),
        (
            "servers: [{id: a, transport: http, url: 'http://h', auth: {type: bearer}}]",
            {},
            "servers[0].auth: expected token_env or token_file",
        ),
        (
            "servers: [{id: a, transport: http, url: 'http://h', auth: {type: bearer, token_env: T}}]",
            {"T": "a\r\nX: y"},
            "expected a token of visible ASCII characters",
        ),
        (
            "servers: [{id: a, transport: http, url: 'http://h', auth: {type: bearer, token: abc}}]",
            {},
            "a secret is not written in the file",
        ),
        (
            """servers:
  - {id: a, transport: http, url: "http://h", headers: {authorization: x}, auth: {type: bearer, token_env: T}}""",
            {"T": "t"},
            "expected either this header or auth",
        ),
    ],
)
def test_credentials_that_cannot_be_had(place, body, env, problem):
    (place / "empty").write_text("\n")
    (place / "binary").write_bytes(b"\xff" * 40)
    (place / "huge").write_text("x" * 100_000)
    found = only_problem(place, body, env)
    assert problem in found
    assert all(len(value) < 4 or value not in found for value in env.values())


def test_a_disabled_backend_needs_no_credentials(place):
    body = "servers: [{id: a, enabled: false, transport: http, url: '${U}', auth: {type: bearer, token_env: T}}]"
    backend = loaded(place, body).config.servers[0]
    assert (backend.enabled, backend.url, backend.auth.token) == (False, None, None)


def test_a_secret_shows_itself_nowhere():
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {secret:>20} {[secret]}"
    assert secret == Secret("hunter2") != Secret("other")
    assert len({secret, Secret("hunter2")}) == 1
    with pytest.raises(TypeError):
        secret.__reduce__()


# Precedence.


def test_flags_come_before_environment_before_profile_before_file(place):
    body = "proxy: {port: 1}\nprofiles: {p: {proxy: {port: 2, path: /p}}}"
    env = {"ONLY1MCP_ENV": "p"}
    assert loaded(place, body).config.proxy.port == 1
    result = loaded(place, body, env)
    assert (result.config.proxy.port, result.config.proxy.path, result.profile) == (2, "/p", "p")
    assert result.config.profiles == {}
    assert loaded(place, body, env | {"ONLY1MCP_PORT": "3"}).config.proxy.port == 3
    assert loaded(place, body, env | {"ONLY1MCP_PORT": "3"}, {"proxy.port": 4}).config.proxy.port == 4
    assert loaded(place, body, env, {"proxy.port": None}).config.proxy.port == 2


def test_the_environment_variables(place):
    env = {
        "ONLY1MCP_HOST": "::1",
        "ONLY1MCP_PORT": "",
        "ONLY1MCP_LOG_LEVEL": "WARN",
        "ONLY1MCP_METRICS_PORT": "9191",
        "ONLY1MCP_TLS_CERT": "cert.pem",
        "ONLY1MCP_TLS_KEY": "/k/key.pem",
        "ONLY1MCP_ENV": "anything",
    }
    config = loaded(place, "", env).config
    assert (config.proxy.host, config.proxy.port) == ("::1", 8080)
    assert (config.logging.level, config.metrics.port) == ("warn", 9191)
    assert (config.proxy.tls.enabled, config.proxy.tls.cert) == (True, str(place / "cert.pem"))
    assert config.proxy.tls.key == "/k/key.pem"


def test_tls_stays_off_where_the_file_says_so(place):
    env = {"ONLY1MCP_TLS_CERT": "c", "ONLY1MCP_TLS_KEY": "k"}
    result = loaded(place, "proxy: {tls: {enabled: false}}", env)
    assert not result.config.proxy.tls.enabled
    assert "has no effect: proxy.tls.enabled is false" in result.notices[0]


def test_half_of_tls_is_no_tls(place):
    assert "the key key is missing" in problems(place, "", {"ONLY1MCP_TLS_CERT": "c"})[0]
    assert any("got nothing" in one for one in problems(place, "", {"ONLY1MCP_TLS_CERT": "c", "ONLY1MCP_TLS_KEY": ""}))


def test_the_jwt_variable_comes_before_the_file(place):
    result = loaded(place, "auth: {jwt: {secret_file: nowhere}}", {"ONLY1MCP_JWT_SECRET": SECRET})
    assert result.config.auth.jwt.secret.reveal() == SECRET
    assert result.notices == [
        "auth.jwt.secret_file: has no effect: the environment variable ONLY1MCP_JWT_SECRET comes first"
    ]


def test_text_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers" / "a.yaml").write_text("{id: machine, transport: stdio, command: x}")
    loaded = load(
        None, {"ONLY1MCP_CONFIG_PATH": "/nonexistent"}, {"proxy.port": 81}, system=tmp_path, text=b'version: "1.0"'
    )
    assert (loaded.config.proxy.port, loaded.config.servers, loaded.source, loaded.files) == (81, (), None, ())
    with pytest.raises(ConfigError, match="configuration:1:1"):
        load(None, {}, {}, text=b"nonsense: 1")


def test_profiles(place):
    body = """proxy: {host: "${HOST_OF_PRODUCTION}"}
servers: [{id: a, transport: stdio, command: x}]
profiles:
  dev:
    proxy: {host: 127.0.0.1}
    servers: [{id: b, transport: stdio, command: y}]
  prod:
    auth: {allow_anonymous: true, jwt: }
    logging: {level: "${LEVEL_OF_PRODUCTION}"}
"""
    config = loaded(place, body, {"ONLY1MCP_ENV": "dev"}).config
    assert [backend.id for backend in config.servers] == ["b"]
    found = only_problem(place, body, {"ONLY1MCP_ENV": "prod", "HOST_OF_PRODUCTION": "h"})
    assert "profiles.prod.logging.level: the environment variable LEVEL_OF_PRODUCTION is not set" in found
    env = {"ONLY1MCP_ENV": "staging", "HOST_OF_PRODUCTION": "localhost"}
    assert "ONLY1MCP_ENV is 'staging', expected 'dev' or 'prod'" in only_problem(place, body, env)


def test_what_a_profile_or_flag_covers_is_checked_all_the_same(place):
    body = "proxy: {port: x}\nprofiles: {p: {proxy: {port: 1}}}"
    assert "proxy.port" in only_problem(place, body, {"ONLY1MCP_ENV": "p"})
    assert "proxy.port" in only_problem(place, "proxy: {port: x}", flags={"proxy.port": 1})


# Files.


def test_discovery(place):
    system, home = place / "etc", place / "home"
    env = {"HOME": str(home)}
    with pytest.raises(ConfigError, match=r"looked for \./only1mcp\.yaml, .*config init"):
        load(None, env, {}, system=system)
    order = [
        (system / "config.yaml", {}),
        (home / ".config/only1mcp/config.yaml", {}),
        (place / "only1mcp.yaml", {}),
        (place / "named.yaml", {"ONLY1MCP_CONFIG_PATH": "named.yaml"}),
    ]
    for path, extra in order:
        write(path.parent, 'version: "1.0"', path.name)
        assert load(None, env | extra, {}, system=system).source.absolute() == path
    assert load(system / "config.yaml", env | extra, {}).source == system / "config.yaml"


def test_a_named_file_must_exist(place):
    write(place, 'version: "1.0"', "only1mcp.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        load(Path("missing.yaml"), {}, {})
    with pytest.raises(ConfigError, match="named by ONLY1MCP_CONFIG_PATH"):
        load(None, {"ONLY1MCP_CONFIG_PATH": "missing.yaml"}, {})


def test_file_names_cannot_steer_the_terminal(place):
    for body in ('servers_dir: "a\\e[2Jb"', 'auth: {jwt: {secret_file: "a\\nb"}}'):
        assert only_problem(place, body).isprintable()
    with pytest.raises(ConfigError) as caught:
        load(Path("a\x1b\udcff"), {}, {})
    assert caught.value.problems[0].startswith(r"a\x1b\udcff: no such file")


def test_a_bad_file_found_first_is_not_passed_over(place):
    write(place, "version: [", "only1mcp.yaml")
    write(place, 'version: "1.0"', "etc/config.yaml")
    with pytest.raises(ConfigError, match=r"only1mcp\.yaml:2:1: not valid YAML"):
        load(None, {}, {}, system=place / "etc")


def test_servers_dir(place):
    write(place, "- {id: c, transport: stdio, command: x}\n- {id: d, transport: stdio, command: x}", "more/2.yaml")
    write(place, "id: b\ntransport: stdio\ncommand: x\ncwd: work\n", "more/1.yaml")
    write(place, "not: read", "more/.hidden.yaml")
    write(place, "not: read", "more/readme.txt")
    result = loaded(place, "servers_dir: '${DIR}'\nservers: [{id: a, transport: stdio, command: x}]", {"DIR": "more"})
    assert [backend.id for backend in result.config.servers] == ["a", "b", "c", "d"]
    assert result.config.servers[1].cwd == str(place / "more/work")
    assert [file.name for file in result.files] == ["c.yaml", "1.yaml", "2.yaml"]


def test_mistakes_in_servers_dir_name_their_file(place):
    write(place, "id: a\ntransport: stdio\ncomand: x\nretries: 99", "more/1.yaml")
    write(place, "- [a", "more/2.yaml")
    write(place, "- 3\n- {id: z, transport: http, url: 'http://h'}", "more/3.yaml")
    write(place, "", "more/4.yaml")
    (place / "more/5.yaml").symlink_to("nowhere")
    (place / "more/6.yaml").mkdir()
    found = problems(place, "servers_dir: more\nservers: [{id: z, transport: stdio, command: x}]")
    more = place / "more"
    assert sorted(found) == sorted(
        [
            f"{more}/1.yaml:3:1: comand: unknown key, did you mean command?",
            f"{more}/1.yaml:4:10: retries: expected an integer from 0 to 10, got the number 99",
            f"{more}/2.yaml:2:1: not valid YAML: did not find expected ',' or ']'",
            f"{more}/3.yaml:1:3: [0]: expected a mapping, got the number 3",
            f"{more}/3.yaml:2:8: [1].id: already taken by {place}/c.yaml:3:11",
            f"{more}/4.yaml:1:1: expected a mapping, got nothing",
            f"{more}/5.yaml: no such file (a broken link?)",
            f"{more}/6.yaml: expected a YAML file, got a directory",
        ]
    )


def test_the_machines_folder_has_servers_by_default(place):
    system = place / "etc"
    write(system, "{id: b, transport: stdio, command: x}", "servers/b.yaml")
    path = write(system, 'version: "1.0"', "config.yaml")
    assert [backend.id for backend in load(path, {}, {}, system=system).config.servers] == ["b"]
    assert load(path, {}, {}, system=place).config.servers == ()


def test_file_names_are_relative_to_the_file(place, monkeypatch):
    body = "proxy: {tls: {enabled: true, cert: c.pem, key: /k.pem}}\nlogging: {outputs: [{type: file, path: l.log}]}"
    write(place, 'version: "1.0"\n' + body, "sub/c.yaml")
    config = load(Path("sub/c.yaml"), {}, {}).config
    assert (config.proxy.tls.cert, config.proxy.tls.key) == (str(place / "sub/c.pem"), "/k.pem")
    assert config.logging.outputs[0].path == str(place / "sub/l.log")


# Notices.


def test_keys_without_effect_are_named(place):
    body = """proxy:
  workers: auto
  health: {interval_seconds: 3}
  circuit_breaker: {open_seconds: 3}
  cache: {tools: {search: {ttl_seconds: 5}}}
auth: {api_keys: [{name: a, key_env: K, scopes: [x], tools: [y]}]}
admin: {host: 127.0.0.1}
state: {url: "redis://h"}
servers:
  - {id: a, transport: stdio, command: x, instances: {mode: per_session}}
  - {id: b, transport: sse, url: 'http://h', retries: 2, health_check_url: 'http://h/health'}
"""
    notices = loaded(place, body, {"K": "key"}).notices
    assert [notice.partition(":")[0] for notice in notices] == [
        "proxy.workers",
        "proxy.health",
        "proxy.circuit_breaker",
        "admin.host",
        "state.url",
        "auth.api_keys[0].scopes",
        "servers[1].retries",
        "servers[1].health_check_url",
    ]
    assert all(": accepted, but has no effect in this version: " in notice for notice in notices)


def test_a_plain_file_has_no_notices(place):
    assert loaded(place, f"servers: [{HTTP}]\nproxy: {{workers: 1}}").notices == []


# Anything at all.

KEYS = sorted(set(Config.__struct_fields__) | set(BackendConfig.__struct_fields__) | {"tls", "jwt", "port"})
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["${A}", "a", "1.0"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=15,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_configuration_or_a_configuration_error(place, data):
    path = place / "any.yaml"
    path.write_bytes(data)
    try:
        load(path, {}, {})
    except ConfigError as error:
        assert error.problems


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5))
def test_any_values_are_a_configuration_or_a_configuration_error(place, value):
    path = place / "any.yaml"
    path.write_bytes(msgspec.yaml.encode(value | {"version": "1.0"}))
    try:
        result = load(path, {"A": "1"}, {})
    except ConfigError as error:
        assert all(line.isprintable() for line in error.problems)
    else:
        # What was built is what the schema allows.
        assert msgspec.convert(msgspec.to_builtins(result.config), Config) == result.config


def test_a_file_cut_off_anywhere(place):
    text = OPERATIONS.encode()
    for end in range(0, len(text), 7):
        path = place / "cut.yaml"
        path.write_bytes(text[:end])
        try:
            load(path, OPERATIONS_ENV, {})
        except ConfigError as error:
            assert error.problems
