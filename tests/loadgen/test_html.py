"""The figures as one file: well-formed pictures, nothing from elsewhere, nothing that runs."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.loadgen.runs import made_up

from only1mcp.loadgen.engine import Run
from only1mcp.loadgen.failure import HTTP, Failure
from only1mcp.loadgen.figures import Gates, figures
from only1mcp.loadgen.html import HEIGHT, WIDTH, render_html

EVIL = "</pre><script>alert(1)</script><img src=x onerror=y>\"'&"


def pictures(text: str) -> list[ET.Element]:
    return [ET.fromstring(each) for each in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


def written(run: Run, gates: Gates | None = None) -> str:
    return render_html(figures(run, gates or Gates()))


def test_a_histogram_and_curves_over_time() -> None:
    text = written(made_up([0.001 * number for number in range(1, 500)], [Failure(HTTP, "500", "x")]))
    histogram, curves = pictures(text)
    assert len([each for each in histogram.iter() if each.get("class") == "bar"]) == 48
    assert len([each for each in curves.iter() if each.tag.endswith("polyline")]) == 4
    assert len([each for each in curves.iter() if each.tag.endswith("circle")]) == 1
    assert "missed: --max-errors 0: got 1" in text


def test_what_a_target_says_is_text() -> None:
    run = made_up([0.01], [Failure(HTTP, EVIL, EVIL)], server=EVIL)
    text = written(run)
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text
    assert "?a=1&amp;b=&lt;2&gt;" in text
    assert "default-src 'none'" in text


def test_a_run_without_answers_has_no_pictures() -> None:
    assert pictures(written(made_up())) == []
    assert len(pictures(written(made_up([0.01])))) == 2


@given(st.lists(st.floats(0, 90_000), min_size=1, max_size=60))
def test_whatever_came_stays_within_the_picture(values: list[float]) -> None:
    for picture in pictures(written(made_up(values))):
        for shape in picture.iter():
            for name, most in (("x", WIDTH), ("y", HEIGHT), ("width", WIDTH), ("height", HEIGHT)):
                value = shape.get(name)
                assert value is None or -1 <= float(value) <= most
            for point in (shape.get("points") or "").split():
                x, y = map(float, point.split(","))
                assert 0 <= x <= WIDTH
                assert 0 <= y <= HEIGHT
                assert math.isfinite(x + y)


@pytest.mark.parametrize("latency_s", [0.0, 1e-7, 1e-6, 1.0, 86_400.0])
def test_one_value_alone(latency_s: float) -> None:
    assert len(pictures(written(made_up([latency_s] * 3)))) == 2
