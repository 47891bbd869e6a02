"""What is shown of a configuration holds no secret; the schema and the example agree with the loader."""

import re

import pytest
import yaml

from only1mcp.config.load import load
from only1mcp.config.show import example, json_schema, redacted
from only1mcp.errors import ConfigError

SECRET = "topsecret" * 4


@pytest.fixture
def read(tmp_path):
    def read(text, env=None):
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return load(path, env or {}, {})

    return read


def test_no_secret_is_shown(read):
    env = {"ONLY1MCP_JWT_SECRET": SECRET, "ONLY1MCP_ADMIN_API_KEY": SECRET, "S": SECRET}
    text = """
version: "1.0"
state: {url: "redis://me:topsecret@h:6379/0"}
auth: {api_keys: [{name: a, key_env: S}]}
servers:
  - {id: a, transport: stdio, command: npx, args: [-y, "--token=${S}"], env: {TOKEN: topsecret, "B": "${S}"}}
  - {id: b, transport: http, url: "https://h/mcp?key=${S}", headers: {X-Key: topsecret}}
  - {id: c, transport: http, url: "https://h/mcp", auth: {type: bearer, token_env: S}}
"""
    loaded = read(text, env)
    shown = redacted(loaded.config, loaded.from_env)
    assert "topsecret" not in str(shown)
    assert loaded.config.auth.api_keys[0].key_sha256 not in str(shown)
    assert shown["servers"][0]["args"] == ["-y", "***"]
    assert shown["servers"][0]["env"] == {"TOKEN": "***", "B": "***"}
    assert shown["servers"][1]["headers"] == {"X-Key": "***"}
    assert shown["servers"][2]["auth"] == {"type": "bearer", "token_env": "S", "token": "***"}
    assert shown["state"]["url"] == "redis://me:***@h:6379/0"
    assert shown["auth"]["jwt"]["secret"] == "***"


def test_a_file_without_secrets_is_shown_so_that_it_loads_again(read):
    text = """
version: "1.0"
proxy: {port: 0, workers: auto, timeouts: {idle_s: 2.5}}
servers:
  - {id: a, transport: stdio, command: npx, args: [x], tools: {rename: {b: c}}}
  - {id: b, transport: http, url: "https://h/mcp"}
"""
    config = read(text).config
    assert read(yaml.safe_dump(redacted(config))).config == config


COMMENTED = re.compile(r"^( *)# ( *(?:- )?(?:\{|[a-z_]+:(?: |$)).*)$", re.MULTILINE)


def test_the_example_is_valid_as_it_is_and_with_everything_commented_in(read, tmp_path):
    assert read(example()).notices == []
    text, count = COMMENTED.subn(r"\1\2", example())
    assert count > 25
    (tmp_path / "servers.d").mkdir()
    env = {"SEARCH_API_KEY": "x", "LAPTOP_API_KEY": "y", "ONLY1MCP_JWT_SECRET": SECRET}
    config = read(text, env).config
    assert [backend.id for backend in config.servers] == ["files", "search"]
    assert config.proxy.tls.enabled
    assert config.auth.api_keys[0].name == "laptop"


# Pairs of a document and whether both the loader and the schema take it.
DOCUMENTS = [
    ("version: '1.0'", True),
    ("version: '2'", False),
    ("proxy: {}", False),
    ("version: '1.0'\nproxy: {port: 1, workers: auto}", True),
    ("version: '1.0'\nproxy: {port: 70000}", False),
    ("version: '1.0'\nproxy: {port: '${P:-1}'}", True),
    ("version: '1.0'\nproxy: {port: '1'}", False),
    ("version: '1.0'\nproxy:\nservers:\nprofiles:\nauth: {jwt: , rate_limit: }", True),
    ("version: '1.0'\nproxy: {tls: {enabled: '${T:-no}', cert: , key: ''}}", True),
    ("version: '1.0'\nproxy: {host: }", False),
    ("version: '1.0'\nprox: {}", False),
    ("version: '1.0'\nauth: {jwt: {secret: x}}", False),
    ("version: '1.0'\nauth: {api_keys: [{name: a, key_env: '${N:-P}', tools: ['*']}]}", True),
    ("version: '1.0'\nlogging: {level: loud}", False),
    ("version: '1.0'\nlogging: {level: '${L:-info}'}", True),
    ("version: '1.0'\nservers: [{id: a, transport: stdio, command: x, env: {A: b}}]", True),
    ("version: '1.0'\nservers: [{id: a, transport: stdio, command: x, env: {A: 1}}]", False),
    ("version: '1.0'\nservers: [{id: a, transport: stdio}]", False),
    ("version: '1.0'\nservers: [{id: a, transport: http}]", False),
    ("version: '1.0'\nservers: [{id: a b, transport: http, url: 'http://h'}]", False),
    ("version: '1.0'\nservers: [{id: a, transport: http, url: '${U:-http://h}', headers: {A: b}}]", True),
    ("version: '1.0'\nservers: [{id: a, transport: http, url: 'ftp://h'}]", False),
    ("version: '1.0'\nprofiles: {p: {proxy: {port: 1}}}", True),
    ("version: '1.0'\nprofiles: {p: {proxy: {prt: 1}}}", False),
    ("version: '1.0'\nprofiles: {p: {version: '1.0'}}", False),
    ("version: '1.0'\nproxy: {cache: {tools: {x: {ttl_seconds: 3}}}}", True),
]


@pytest.mark.parametrize(("text", "good"), DOCUMENTS)
def test_the_loader_takes_what_the_schema_says(read, text, good):
    if good:
        read(text, {"P": "1"})
    else:
        with pytest.raises(ConfigError):
            read(text, {"P": "1"})


@pytest.mark.parametrize(("text", "good"), [*DOCUMENTS, (example(), True)])
def test_the_schema_says_what_the_loader_takes(text, good):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema (part of the MCP SDK) is not installed")
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    assert validator.is_valid(yaml.safe_load(text)) is good


def test_no_secret_field_is_in_the_schema():
    definitions = json_schema()["$defs"]
    assert "secret" not in definitions["JWT"]["properties"]
    assert "token" not in definitions["BackendAuth"]["properties"]
    assert "api_key" not in definitions["Admin"]["properties"]
    assert "***" not in str(definitions)
