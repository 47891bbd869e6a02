"""The picture is well-formed, its bars are as long as the numbers, and it can be read on dark pages."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from benches.loopback.chart import draw
from tests.benches.loopback.reports import report, row, subject

SVG = "{http://www.w3.org/2000/svg}"


def drawn(**rows: dict[str, object]) -> ET.Element:
    return ET.fromstring(draw(report(**rows)))


def width(picture: ET.Element, name: str) -> float:
    (bar,) = picture.findall(f"{SVG}rect[@class='{name}']")
    return float(bar.attrib["width"])


def test_bars_are_as_long_as_the_ratios() -> None:
    picture = drawn(full=row("full", {"nginx": subject(20.0), "haproxy": subject(10.0), "only1mcp": subject(50.0)}))
    one = width(picture, "nginx")
    assert width(picture, "haproxy") == 0.5 * one
    assert width(picture, "only1mcp") == 2.5 * one
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert "2.50 only1mcp" in texts
    assert "CPU a call, goal ≤ 1.5: missed by 67 %" in texts


def test_the_goal_is_marked_at_its_ratio() -> None:
    picture = drawn(stdio=row("stdio", {"nginx": subject(20.0), "only1mcp": subject(20.0)}))
    (goal,) = picture.findall(f"{SVG}line[@class='goal']")
    (bar,) = picture.findall(f"{SVG}rect[@class='nginx']")
    assert float(goal.attrib["x1"]) - float(bar.attrib["x"]) == 2 * float(bar.attrib["width"])


def test_a_bar_that_is_far_too_long_ends_in_the_picture() -> None:
    picture = drawn(full=row("full", {"nginx": subject(1.0), "only1mcp": subject(100.0)}))
    (bar,) = picture.findall(f"{SVG}rect[@class='only1mcp']")
    assert float(bar.attrib["x"]) + float(bar.attrib["width"]) < float(picture.attrib["width"])
    assert "… 100.00 only1mcp" in [text.text for text in picture.iter(f"{SVG}text")]


def test_rows_without_numbers_and_other_rows_are_left_out() -> None:
    picture = drawn(
        stdio=row("stdio", {"only1mcp": subject(20.0)}, {"nginx": "not installed"}),
        memory_idle=row("memory-idle", {"only1mcp": subject(40.0, metric="idle_mb")}),
    )
    assert picture.findall(f"{SVG}rect[@class='only1mcp']") == []


def test_there_are_colors_for_dark_pages() -> None:
    text = draw(report(full=row("full", {"nginx": subject(20.0), "only1mcp": subject(50.0)})))
    _, dark = text.split("@media (prefers-color-scheme: dark)")
    for name in ("text", ".page", ".nginx", ".haproxy", ".floor", ".only1mcp", ".goal"):
        assert f"{name} {{" in dark
