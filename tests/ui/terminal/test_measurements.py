"""Tables, JSON lines and plots of the measuring commands."""

import io
import json
from pathlib import Path

import pytest

from model_loader.errors import InvalidSetting
from model_loader.measure.perplexity import PerplexityRow
from model_loader.measure.profile import Generation, ProfileRow
from ui.terminal.measurements import ProgressLine, check_plot, print_perplexity, print_profile

PERPLEXITY = [
    PerplexityRow("none", 1024, 4, 4.234),
    PerplexityRow("none", 8192, 2, 469.81),
    PerplexityRow("ntk,logn,window", 1024, 4, 4.23),
    PerplexityRow("ntk,logn,window", 8192, 2, 3.49),
]
PROFILE = [
    ProfileRow(
        "bf16", "bfloat16 on cpu, because of this", Generation(2048, 20.0, 19.0, 0.5, 0.6),
        Generation(8192, 18.0, 17.0, 0.5, 0.7), 2048, 2 * 1024**3, 3 * 1024**3,
    )
]  # fmt: skip


def test_perplexity_is_the_table_of_the_readme(tmp_path: Path) -> None:
    lines: list[str] = []
    print_perplexity("Qwen/Qwen-7B", PERPLEXITY, tmp_path / "plot.png", lines.append)
    assert lines[0].splitlines() == [
        "| perplexity | 1,024 | 8,192 |",
        "| --- | ---: | ---: |",
        "| base | 4.23 | 469.81 |",
        "| + window (our reading) | 4.23 | 3.49 |",
    ]
    assert json.loads(lines[1])["perplexity"]["base at 8192 tokens"] == {"perplexity": 469.81, "pieces": 2}
    assert (tmp_path / "plot.png").stat().st_size > 5_000


def test_the_profile_has_both_methods_and_the_figures_of_2023(tmp_path: Path) -> None:
    lines: list[str] = []
    print_profile("Qwen/Qwen-7B", PROFILE, tmp_path / "plot.png", lines.append)
    text = "\n".join(lines)
    assert "| bf16 | 20.0 | 60% | 0.50 | 19.0 | 30.53 |" in text
    assert "| bf16 | 2.00 | 3.00 | 18.99 | 24.40 |" in text
    figures = json.loads(next(line for line in lines if line.startswith("{")))
    assert figures["bf16"]["long_tokens_per_s"] == 18.0
    assert (tmp_path / "plot.png").is_file()


@pytest.mark.parametrize("name", ["plot.exe", "nowhere/plot.png"])
def test_a_plot_that_could_not_be_kept_is_refused_before_anything_is_measured(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidSetting, match="--plot is"):
        check_plot(tmp_path / name)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_on_a_terminal_and_nothing_elsewhere() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        progress = ProgressLine(stream)
        progress.show("bf16: ours", 0.5)
        progress.show("bf16: ours", 0.5)
        progress.clear()
    assert terminal.getvalue().count("bf16: ours") == 1
    assert "50%" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\033[K")
    assert pipe.getvalue() == ""
