"""Mirrored headers: the encoded forms, the annotations a tool may carry, and the comparison of header and body."""

from __future__ import annotations

import base64
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp._fast import COMPILED
from only1mcp.errors import ProtocolError
from only1mcp.wire import mirror
from only1mcp.wire.mirror import (
    annotated_arguments,
    check_params,
    decode_header,
    encode_header,
    header_params,
    param_headers,
)

ENCODED = [
    ("us-west1", b"us-west1"),
    ("", b""),
    ("two words", b"two words"),
    (" padded ", b"=?base64?IHBhZGRlZCA=?="),
    ("Hello, 世界", b"=?base64?SGVsbG8sIOS4lueVjA==?="),
    ("=?base64?literal?=", b"=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
    ("tab\there", b"=?base64?dGFiCWhlcmU=?="),
    ("a\r\nX-Evil: 1", b"=?base64?YQ0KWC1FdmlsOiAx?="),
    (" ", b"=?base64?IA==?="),
    ("\x7f", b"=?base64?fw==?="),
    (True, b"true"),
    (False, b"false"),
    (42, b"42"),
    (-7, b"-7"),
    (0, b"0"),
]


@pytest.mark.parametrize(("value", "expected"), ENCODED)
def test_encodes_as_the_specification_shows(value: str | int | bool, expected: bytes) -> None:
    assert encode_header(value) == expected
    if isinstance(value, str):
        assert decode_header(expected) == value


@given(st.text())
def test_every_text_survives_and_is_a_safe_field_value(text: str) -> None:
    value = encode_header(text)
    assert all(0x20 <= octet <= 0x7E for octet in value)
    assert value == value.strip()
    assert decode_header(value) == text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" \tpadded\t ", "padded"),
        (b"=?BASE64?SGk=?=", "=?BASE64?SGk=?="),
        (b"=?base64?SGk=", "=?base64?SGk="),
        (b"SGk=?=", "SGk=?="),
        (b"=?base64?=", "=?base64?="),
        (b"=?base64??=", ""),
        (b"=?base64?SGk=?=", "Hi"),
    ],
)
def test_decodes_only_the_exact_markers(value: bytes, expected: str) -> None:
    assert decode_header(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"=?base64?SGk?=",
        b"=?base64?SGk==?=",
        b"=?base64?SG k=?=",
        b"=?base64?SGk=\tx?=",
        b"=?base64?SGl=?=",
        b"=?base64?S-k_?=",
        b"=?base64?/w==?=",
        b"=?base64?7aCA?=",
        "ü".encode(),
        b"a\x00b",
        b"a\x7fb",
        b"x" * (mirror.MAX_VALUE_BYTES + 1),
    ],
)
def test_refuses_what_no_sender_may_write(value: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_header(value)
    assert caught.value.code == -32020
    assert caught.value.http_status == 400


@given(st.binary(max_size=64))
def test_any_octets_are_text_or_a_protocol_error(value: bytes) -> None:
    try:
        assert isinstance(decode_header(value), str)
    except ProtocolError as error:
        assert error.code == -32020


@given(st.binary(max_size=64))
def test_any_octets_between_the_markers_have_one_spelling(payload: bytes) -> None:
    value = b"=?base64?" + payload + b"?="
    try:
        text = decode_header(value)
    except ProtocolError:
        return
    assert b"=?base64?" + base64.b64encode(text.encode()) + b"?=" == value


def annotated(token: Any = "Region", type: Any = "string") -> dict[str, Any]:
    return {"type": type, "x-mcp-header": token}


def test_finds_annotations_in_schema_order_through_properties_alone() -> None:
    schema = {
        "type": "object",
        "properties": {
            "region": annotated(),
            "query": {"type": "string"},
            "options": {
                "type": "object",
                "properties": {"limit": annotated("Limit", "integer"), "dry": annotated("Dry-Run", "boolean")},
            },
            "tenant": annotated("Tenant"),
        },
    }
    assert header_params(schema) == [
        (("region",), "Region"),
        (("options", "limit"), "Limit"),
        (("options", "dry"), "Dry-Run"),
        (("tenant",), "Tenant"),
    ]


@pytest.mark.parametrize("schema", [None, True, {}, [], "x", {"properties": []}, {"properties": {"a": True}}])
def test_schemas_without_annotations_have_none(schema: Any) -> None:
    assert header_params(schema) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"x-mcp-header": {"type": "string"}}},
        {"properties": {"a": {"type": "object", "default": {"x-mcp-header": "Region"}}}},
        {"properties": {"a": {"enum": [{"x-mcp-header": ""}]}}},
        {"examples": [{"x-mcp-header": "Region"}], "const": {"x-mcp-header": 1}},
    ],
)
def test_data_in_a_schema_is_no_annotation(schema: dict[str, Any]) -> None:
    assert header_params(schema) == []


@pytest.mark.parametrize(
    "schema",
    [
        annotated(),
        {"properties": {"a": annotated("")}},
        {"properties": {"a": annotated("has space")}},
        {"properties": {"a": annotated("Region\r\nX")}},
        {"properties": {"a": annotated("Region\n")}},
        {"properties": {"a": annotated("Région")}},
        {"properties": {"a": annotated("a:b")}},
        {"properties": {"a": annotated(7)}},
        {"properties": {"a": annotated(None)}},
        {"properties": {"a": annotated("R" * 129)}},
        {"properties": {"a": annotated(type="number")}},
        {"properties": {"a": annotated(type="object")}},
        {"properties": {"a": annotated(type=["string", "null"])}},
        {"properties": {"a": annotated(type=None)}},
        {"properties": {"a": {"x-mcp-header": "Region"}}},
        {"properties": {"a": annotated("Region"), "b": annotated("REGION")}},
        {"properties": {"a": annotated("Region"), "b": {"properties": {"c": annotated("region")}}}},
        {"properties": {"a": {"type": "array", "items": annotated()}}},
        {"properties": {"a": {"type": "array", "items": [annotated()]}}},
        {"properties": {"a": {"prefixItems": [{"properties": {"b": annotated()}}]}}},
        {"oneOf": [{"properties": {"a": annotated()}}]},
        {"anyOf": [{"properties": {"a": annotated()}}]},
        {"allOf": [{"properties": {"a": annotated()}}]},
        {"not": {"properties": {"a": annotated()}}},
        {"if": {"properties": {"a": annotated()}}},
        {"then": {"properties": {"a": annotated()}}},
        {"else": {"properties": {"a": annotated()}}},
        {"$defs": {"t": {"properties": {"a": annotated()}}}, "properties": {"t": {"$ref": "#/$defs/t"}}},
        {"additionalProperties": annotated()},
        {"patternProperties": {"^a": annotated()}},
        {"dependentSchemas": {"a": {"properties": {"b": annotated()}}}},
        {"properties": {f"p{i}": annotated(f"P{i}") for i in range(65)}},
    ],
)
def test_an_invalid_annotation_condemns_the_tool(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".{10}") as caught:
        header_params(schema)
    assert "\n" not in str(caught.value)


def test_a_very_deep_schema_is_walked_without_recursion() -> None:
    schema: dict[str, Any] = annotated("Deep")
    for depth in range(5000):
        if depth == mirror.MAX_PATH:
            assert header_params(schema) == [(("a",) * mirror.MAX_PATH, "Deep")]
        schema = {"properties": {"a": schema}}
    with pytest.raises(ValueError, match="properties"):
        header_params({"items": schema})
    with pytest.raises(ValueError, match="objects deep"):
        header_params(schema)


ANNOTATIONS = [(("region",), "Region"), (("options", "limit"), "Limit"), (("options", "dry"), "Dry-Run")]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ()),
        ({"region": None, "options": None}, ()),
        ({"region": "", "other": "x"}, ((b"mcp-param-region", b""),)),
        ({"region": "us"}, ((b"mcp-param-region", b"us"),)),
        ({"region": "世"}, ((b"mcp-param-region", b"=?base64?5LiW?="),)),
        (
            {"options": {"limit": 5, "dry": False}},
            ((b"mcp-param-limit", b"5"), (b"mcp-param-dry-run", b"false")),
        ),
        ({"options": {"limit": 5.0}}, ((b"mcp-param-limit", b"5"),)),
        ({"options": {"limit": -0.0}}, ((b"mcp-param-limit", b"0"),)),
        ({"options": {"limit": 2**60}}, ((b"mcp-param-limit", b"1152921504606846976"),)),
        ({"options": {"limit": 1e29}}, ()),
        ({"options": {"limit": 5.5}}, ((b"mcp-param-limit", b"5.5"),)),
        ({"options": [1], "region": ["us"]}, ()),
        ({"region": {"a": 1}}, ()),
    ],
)
def test_mirrors_what_the_arguments_say(arguments: dict[str, Any], expected: tuple[tuple[bytes, bytes], ...]) -> None:
    assert param_headers(ANNOTATIONS, arguments) == expected
    check_params(ANNOTATIONS, arguments, expected)


@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        ({"options": {"limit": 42}}, [(b"mcp-param-limit", b"42.0")]),
        ({"options": {"limit": 42}}, [(b"mcp-param-limit", b"042")]),
        ({"options": {"limit": 42.0}}, [(b"mcp-param-limit", b"42")]),
        ({"options": {"limit": 42}}, [(b"mcp-param-limit", b"=?base64?NDI=?=")]),
        ({"region": "us"}, [(b"mcp-param-region", b"  us\t")]),
        ({}, [(b"mcp-param-unknown", b"1"), (b"mcp-param-unknown", b"2"), (b"host", b"x")]),
    ],
)
def test_accepts_equal_values_in_another_spelling(
    arguments: dict[str, Any], headers: list[tuple[bytes, bytes]]
) -> None:
    check_params(ANNOTATIONS, arguments, headers)


@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        ({"region": "us"}, []),
        ({"region": "us"}, [(b"mcp-param-region", b"US")]),
        ({"region": "us"}, [(b"mcp-param-region", b"us"), (b"mcp-param-region", b"us")]),
        ({"region": ""}, []),
        ({}, [(b"mcp-param-region", b"us")]),
        ({"region": None}, [(b"mcp-param-region", b"")]),
        ({"region": ["us"]}, [(b"mcp-param-region", b"us")]),
        ({"region": "42"}, [(b"mcp-param-region", b"42.0")]),
        ({"options": {"limit": 42}}, [(b"mcp-param-limit", b"43")]),
        ({"options": {"limit": 42}}, [(b"mcp-param-limit", b"4.2e1")]),
        ({"options": {"limit": 42}}, [(b"mcp-param-limit", b"42.5")]),
        ({"options": {"limit": 42}}, [(b"mcp-param-limit", b"+42")]),
        ({"options": {"limit": 42}}, [(b"mcp-param-limit", b"4_2")]),
        ({"options": {"limit": 42}}, [(b"mcp-param-limit", b"0" * 5000 + b"42")]),
        ({"options": {"dry": True}}, [(b"mcp-param-dry-run", b"1")]),
        ({"options": {"dry": True}}, [(b"mcp-param-dry-run", b"True")]),
        ({"region": "us"}, [(b"mcp-param-region", b"=?base64?!!!?=")]),
    ],
)
def test_refuses_headers_that_disagree_with_the_body(
    arguments: dict[str, Any], headers: list[tuple[bytes, bytes]]
) -> None:
    with pytest.raises(ProtocolError) as caught:
        check_params(ANNOTATIONS, arguments, headers)
    assert (caught.value.code, caught.value.http_status) == (-32020, 400)


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.floats(allow_nan=False)


@given(st.fixed_dictionaries({}, optional={"region": scalars, "options": st.dictionaries(st.text(), scalars)}))
def test_what_we_send_passes_our_own_check(arguments: dict[str, Any]) -> None:
    check_params(ANNOTATIONS, arguments, param_headers(ANNOTATIONS, arguments))


def picked(arguments: bytes, annotations: Any = ANNOTATIONS) -> dict[str, Any]:
    return annotated_arguments(b"xx" + arguments + b"yy", (2, 2 + len(arguments)), annotations)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (b"{}", {}),
        (b"[]", {}),
        (b"5", {}),
        (b"null", {}),
        (b'{"region":"us","other":[[[1]]]}', {"region": "us"}),
        (b'{ "reg\\u0069on" : "\\u00fc" }', {"region": "\u00fc"}),
        (b'{"options":{"limit":5,"x":{"limit":6}},"limit":7}', {"options": {"limit": 5}}),
        (b'{"options":[{"limit":5}],"region":{"a":1}}', {"options": [], "region": {}}),
        (b'{"options":null}', {"options": None}),
        (b'{"other":{"a":1,"a":2}}', {}),
    ],
)
def test_only_what_is_annotated_is_decoded(arguments: bytes, expected: dict[str, Any]) -> None:
    assert picked(arguments) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        b'{"region":"a","region":"b"}',
        b'{"region":"a","r\\u0065gion":"b"}',
        b'{"other":1,"other":2}',
        b'{"options":{"limit":1,"limit":1}}',
        b'{"options":{"limit":1},"options":{}}',
        b'{"options":{"limit":1e999}}',
        b'{"region":"' + b"x" * (mirror.MAX_TEXT_BYTES - 1) + b'"}',
    ],
)
def test_what_two_readers_could_take_for_two_values_is_refused(arguments: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        picked(arguments)
    assert (caught.value.code, caught.value.http_status) == (-32602, 400)
    assert len(caught.value.message) < 300


@pytest.mark.skipif(not COMPILED, reason="the plain-Python scanner takes minutes for ten megabytes")
def test_what_is_beside_the_annotated_arguments_costs_next_to_nothing() -> None:
    """Ten megabytes of empty arrays are a second and a half of decoding, and 600 MB."""
    arguments = b'{"rows":[' + b"[]," * 3_400_000 + b'1],"region":"us"}'
    tracemalloc.start()
    try:
        assert picked(arguments) == {"region": "us"}
        assert tracemalloc.get_traced_memory()[1] < 3 * len(arguments)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", ["x" * (mirror.MAX_VALUE_BYTES + 1), "\u4e16" * (mirror.MAX_VALUE_BYTES // 4 + 1)])
def test_a_value_that_no_header_may_carry(value: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        param_headers(ANNOTATIONS, {"region": value})
    assert (caught.value.code, caught.value.http_status) == (-32602, 400)
    assert "'region' is too long" in caught.value.message
    longest = "x" * mirror.MAX_VALUE_BYTES
    assert param_headers(ANNOTATIONS, {"region": longest}) == ((b"mcp-param-region", longest.encode()),)
