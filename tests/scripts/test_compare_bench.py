"""A slow-down is told from noise, and the report says which it was."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from scripts import compare_bench
from scripts.compare_bench import MARKER, THRESHOLD, Compared, render

ROUNDS = 5


def rounds(factor: float, noise: float, seed: int) -> Compared:
    """Return rounds in which head takes `factor` times as long, each value with some noise, and weather for both."""
    source = random.Random(seed)
    base, head = [], []
    for _ in range(ROUNDS):
        weather = source.uniform(0.8, 1.3)
        base.append(90.0 * weather * source.gauss(1, noise))
        head.append(90.0 * weather * factor * source.gauss(1, noise))
    return Compared("call", base, head)


@pytest.mark.parametrize("seed", range(50))
def test_the_same_is_the_same(seed: int) -> None:
    assert rounds(1.0, 0.03, seed).verdict(THRESHOLD) == "same"
    assert rounds(1.0, 0.10, seed).verdict(THRESHOLD) == "same"


@pytest.mark.parametrize("seed", range(50))
def test_a_change_within_the_threshold_is_none(seed: int) -> None:
    assert rounds(1.05, 0.01, seed).verdict(THRESHOLD) == "same"


@pytest.mark.parametrize("seed", range(50))
def test_a_large_change_is_seen(seed: int) -> None:
    assert rounds(1.5, 0.03, seed).verdict(THRESHOLD) == "slower"
    assert rounds(0.5, 0.03, seed).verdict(THRESHOLD) == "faster"


def test_noise_grows_with_how_far_the_rounds_lie_apart() -> None:
    calm, wild = Compared("c", [1.0] * 5, [1.2] * 5), Compared("w", [1.0] * 5, [0.8, 1.5, 1.2, 1.0, 1.4])
    assert calm.interval == pytest.approx((1.2, 1.2))
    assert calm.verdict(THRESHOLD) == "slower"
    assert wild.ratio == calm.ratio
    assert wild.verdict(THRESHOLD) == "same"


def test_the_report() -> None:
    same, slower = Compared("cached", [50.0] * 3, [51.0] * 3), Compared("call", [90.0] * 3, [135.0] * 3)
    lines = render([same, slower], THRESHOLD, 3, 1).splitlines()
    assert lines[:2] == [MARKER, "### Benchmark: 1 slower"]
    assert "| cached | 50.0 | 51.0 | 1.02 (1.02–1.02) |  |" in lines
    assert "| call | 90.0 | 135.0 | 1.50 (1.50–1.50) | **slower** |" in lines
    assert render([same], THRESHOLD, 3, 1).splitlines()[1] == "### Benchmark: no change beyond the noise"


def test_the_script_finds_its_own_comment() -> None:
    script = Path(compare_bench.__file__).with_name("bench_comment.sh").read_text()
    assert f'startswith("{MARKER}")' in script


def test_the_report_goes_to_github_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: tmp_path / name for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    for name, file in files.items():
        file.write_text("before\n")
        monkeypatch.setenv(name, str(file))
    compare_bench.to_github("one\nreport<<end\nend\ntwo")
    assert files["GITHUB_STEP_SUMMARY"].read_text() == "before\none\nreport<<end\nend\ntwo\n"
    before, head, *body, end = files["GITHUB_OUTPUT"].read_text().splitlines()
    assert (before, head) == ("before", f"report<<{end}")
    assert body == ["one", "report<<end", "end", "two"]


def test_too_few_rounds_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["compare_bench", ".", ".", "--rounds", "2"])
    with pytest.raises(SystemExit):
        compare_bench.main()
    assert "say nothing about noise" in capsys.readouterr().err
