"""YAML text to nodes: positions, YAML 1.1 as PyYAML reads it, and text that was made to hurt."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from only1mcp.config.messages import Mark, Problems
from only1mcp.config.source import MAX_FILE_BYTES, Node, overlay, parse, read_file, tree


def plain(node: Node):
    match node.value:
        case dict():
            return {key: plain(below) for key, below in node.value.items()}
        case list():
            return [plain(below) for below in node.value]
    return node.value


def read(text: str | bytes) -> tuple[Node | None, list[str]]:
    problems = Problems()
    data = text.encode() if isinstance(text, str) else text
    node = parse(data, "f.yaml", problems)
    return node, problems.error().problems


def refused(text: str | bytes) -> str:
    _, problems = read(text)
    assert problems, "expected a problem"
    return problems[0]


def test_positions_count_lines_columns_and_characters():
    node, problems = read("a: 1\nbé: {c: [x,\n  ÿy]}\n")
    assert not problems
    inner = node.get("bé", "c")
    assert str(node.get("a").mark) == "f.yaml:1:4"
    assert [str(one.mark) for one in inner.value] == ["f.yaml:2:10", "f.yaml:3:3"]
    assert inner.value[1].path == "['bé'].c[1]"
    assert str(node.keys["bé"]) == "f.yaml:2:1"


@pytest.mark.parametrize(
    "text",
    [
        "[yes, no, on, off, True, FALSE, y, n]",
        "[1, -1, 0x1F, 010, 0b11, 1_000, 1:30, 1.5, .5, 1e3, 1.0e+3, .inf, 0o17, 08]",
        "[null, ~, Null, '', nothing]",
        "['1', \"true\", '~', !!str 1, !!int '5', !!float 3, !!bool 'yes']",
        "a: &x {b: 1}\nc: *x",
        "base: &b {x: 1, y: 2}\nd: {<<: *b, y: 3}\ne: {<<: [*b, {z: 4}], x: 0}",
        "text: |\n  two\n  lines\nfolded: >-\n  one\n  line",
        "# only a comment",
        "\ufeffa: 1",
        "--- \na: 1\n...\n",
    ],
)
def test_values_are_those_of_pyyaml(text):
    node, problems = read(text)
    assert not problems
    assert plain(node) == yaml.safe_load(text)


def test_dates_stay_text():
    node, _ = read("[2001-12-14, 2001-12-14t21:59:43.10-05:00, =]")
    assert plain(node) == ["2001-12-14", "2001-12-14t21:59:43.10-05:00", "="]


def test_duplicate_keys_are_named_with_the_first_line():
    assert refused("a: 1\nb: 2\na: 3") == "f.yaml:3:1: a: written twice, first at line 1"


def test_merged_keys_are_no_duplicates():
    _, problems = read("b: &b {x: 1}\nd: {x: 2, <<: *b}")
    assert not problems


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1, 2", "not valid YAML"),
        ('a: "cut off', "not valid YAML"),
        ("a: {b: 1", "not valid YAML"),
        ("a:\n\t- b", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        ("a: @b", "not valid YAML"),
        ("a: \x01", "not valid YAML"),
        ("{port: ${PORT}}", "put a value with ${...} in quotes"),
        ("a: 1\n---\nb: 2", "expected one document"),
        ("a: !!python/object/apply:os.system ['true']", "got the tag"),
        ("a: !include x.yaml", "got the tag '!include'"),
        ("a: !!binary aGVsbG8=", "got the tag"),
        ("a: !!set {x}", "got the tag"),
        ("a: !!int abc", "got 'abc' as int"),
        ("a: !!bool maybe", "as bool"),
        ("a: !!int ''", "as int"),
        ("a: !!float x", "as float"),
        ("1: x", "expected a key that is text, got 1"),
        ("yes: x", "put it in quotes"),
        ("? [a, b]\n: x", "expected a key that is text"),
        ("? {a: b}\n: x", "expected a key that is text"),
        ("? \n: x", "expected a key that is text, got none"),
        ("a: *nowhere", "alias"),
        ("a: &x [*x]", "contains itself"),
        ("a: {<<: 3}", "expected a mapping to merge"),
        ("a: {<<: [1, {b: 2}]}", "expected a mapping to merge"),
        ("[" * 100 + "]" * 100, "levels of nesting"),
        ("{a: " * 5000, "levels of nesting"),
        ("- " * 5000, "levels of nesting"),
        ("a: " + "1:" * 40_000 + "1", "as int"),
        (b"a: \xff\xfe", "expected UTF-8 text, got the byte 0xff"),
        (b"\xff\xfea\x00:\x00", "expected UTF-8 text"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "not valid YAML"),
        (b"\x89PNG\r\n", "expected UTF-8"),
        (b"a" * (MAX_FILE_BYTES + 1), "at most 1 MiB"),
    ],
)
def test_bad_text_is_a_problem(text, problem):
    assert problem in refused(text)


def test_bad_bytes_are_located():
    assert refused(b"a: 1\nb: \xc3\xa9\xff").startswith("f.yaml:2:5: ")


def test_a_billion_laughs_are_cut_short():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "aliases expanded" in refused("\n".join(lines))


def test_many_values_are_cut_short():
    assert "at most" in refused("[" + "1," * 300_000 + "]")


def test_every_duplicate_is_noted_and_few_are_told():
    _, problems = read("\n".join(f"k{i // 2}: 1" for i in range(1000)))
    assert len(problems) == 101
    assert problems[-1] == "and 400 more"


def test_files_that_are_none(tmp_path: Path):
    problems = Problems()
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "missing.yaml", problems)
    with pytest.raises(FileNotFoundError):
        read_file(Path(__file__) / "below-a-file.yaml", problems)
    assert read_file(tmp_path, problems) is None
    assert read_file(Path("a\0b"), problems) is None
    assert "got a directory" in problems.error().problems[0]
    assert read_file(Path("/dev/zero"), problems) is None


def test_overlay_merges_mappings_and_replaces_the_rest():
    base, _ = read("a: {b: 1, c: [1, 2]}\nd: x\ne:")
    top, _ = read("a: {c: [3], f: 4}\ne: {g: 1}")
    assert plain(overlay(base, top)) == {"a": {"b": 1, "c": [3], "f": 4}, "d": "x", "e": {"g": 1}}
    assert plain(base) == {"a": {"b": 1, "c": [1, 2]}, "d": "x", "e": None}


def test_overlay_keeps_a_section_of_the_wrong_type_to_be_reported():
    base, _ = read("proxy: [1]")
    assert plain(overlay(base, tree(Mark("ONLY1MCP_PORT"), {"proxy.port": "1"}))) == {"proxy": [1]}


def test_tree_builds_sections():
    node = tree(Mark("command line"), {"proxy.port": 1, "proxy.tls.enabled": True, "list": ["a"]})
    assert plain(node) == {"proxy": {"port": 1, "tls": {"enabled": True}}, "list": ["a"]}
    assert node.get("proxy", "port").path == "proxy.port"


@given(st.binary(max_size=200))
def test_any_bytes_give_a_tree_or_problems(data):
    problems = Problems()
    node = parse(data, "f.yaml", problems)
    assert node is not None or problems


@given(st.text(alphabet="ab:-?[]{}&*!|>'\"%@`#,<= \n\t0.~", max_size=80))
def test_any_yaml_like_text_reads_as_pyyaml_reads_it(text):
    problems = Problems()
    node = parse(text.encode(), "f.yaml", problems)
    if node is None:
        assert problems
    elif not problems:
        try:
            values = yaml.load(text, Loader=TextDates)
        except yaml.constructor.ConstructorError as error:
            # `=`, and `<<` that is no key: text to us.
            assert "2002:merge" in str(error) or "2002:value" in str(error)
            return
        # NaN equals nothing, its repr does.
        assert repr(plain(node)) == repr(values)


class TextDates(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    pass


TextDates.add_constructor("tag:yaml.org,2002:timestamp", TextDates.construct_yaml_str)
