"""Prints what `model_loader.measure` finds: progress on stderr, a table and one JSON line on stdout, a plot as PNG."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from model_loader.errors import InvalidSetting
from model_loader.measure.perplexity import OWN_METHOD, PerplexityRow
from model_loader.measure.profile import FIGURES_2023, Generation, ProfileRow

_METHOD_TITLES = {"none": "base", "ntk": "+ NTK", "ntk,logn": "+ LogN", "ntk,logn,window": "+ window (our reading)"}
_BAR_CELLS = 24
_GIB = 1024**3


class ProgressLine:
    """One line on a terminal that says what is being done and how far; silent where there is no terminal."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._last = ""

    def show(self, what: str, share: float) -> None:
        """Draws the line anew if it has changed."""
        cells = round(_BAR_CELLS * min(max(share, 0.0), 1.0))
        line = f"{'█' * cells}{'·' * (_BAR_CELLS - cells)} {share:4.0%}  {what}"
        if self._stream.isatty() and line != self._last:
            self._last = line
            self._stream.write(f"\r\033[K{line}")
            self._stream.flush()

    def clear(self) -> None:
        """Takes the line away."""
        if self._last:
            self._stream.write("\r\033[K")
            self._stream.flush()


def print_perplexity(name: str, rows: Sequence[PerplexityRow], plot: Path | None, write: Callable[[str], Any]) -> None:
    """The table of the README's long-context section: a line for each method, a column for each length."""
    lengths = sorted({row.length for row in rows})
    methods = list(dict.fromkeys(row.method for row in rows))
    found = {(row.method, row.length): row for row in rows}
    table = [
        [_title(name, method), *(f"{found[method, length].perplexity:.2f}" for length in lengths)] for method in methods
    ]
    write(_table(["perplexity", *(f"{length:,}" for length in lengths)], table))
    figures = {
        f"{_title(name, row.method)} at {row.length} tokens": {"perplexity": row.perplexity, "pieces": row.num_pieces}
        for row in rows
    }
    write(json.dumps({"checkpoint": name, "perplexity": figures}, ensure_ascii=False))
    if plot is not None:
        _plot_perplexity(name, rows, plot)
        write(f"The plot is {plot}")


def print_profile(name: str, rows: Sequence[ProfileRow], plot: Path | None, write: Callable[[str], Any]) -> None:
    """The two tables of the README's profile section, and what stands beside them here."""
    write(f"{name}\n")
    first = rows[0]
    for which in ("short", "long"):
        generation: Generation = getattr(first, which)
        write(f"Speed, generating {generation.num_tokens:,} tokens from one")
        head = [
            "precision",
            "tokens/s",
            "% of bandwidth",
            "first token (s)",
            "method of 2023",
            "Qwen-7B on an A100, 2023",
        ]
        write(_table(head, [_speed_line(row, which) for row in rows]) + "\n")
    write("Peak memory (GiB)")
    encode, generate = f"encoding {first.encode_tokens:,}", f"generating {first.long.num_tokens:,}"
    head = ["precision", encode, generate, "Qwen-7B on an A100, 2023: 2,048", "8,192"]
    write(_table(head, [_memory_line(row) for row in rows]))
    for row in rows:
        write(f"{row.precision}: {row.placement}")
    write(
        json.dumps({"checkpoint": name, **{row.precision: _profile_figures(row) for row in rows}}, ensure_ascii=False)
    )
    if plot is not None:
        _plot_profile(name, rows, plot)
        write(f"The plot is {plot}")


def check_plot(plot: Path | None) -> None:
    """Raises before anything is measured if a plot could not be kept.

    Raises:
        InvalidSetting: its folder does not exist, or it is no .png or .svg.
    """
    if plot is not None and (plot.suffix not in (".png", ".svg") or not plot.resolve().parent.is_dir()):
        raise InvalidSetting(f"--plot is {str(plot)!r}; give a .png or .svg file in a folder that exists.")


def _title(name: str, method: str) -> str:
    return Path(name).name if method == OWN_METHOD else _METHOD_TITLES[method]


def _speed_line(row: ProfileRow, which: str) -> list[str]:
    generation: Generation = getattr(row, which)
    then = FIGURES_2023.get(row.precision, {}).get(f"{which}_tokens_per_s")
    return [
        row.precision,
        f"{generation.tokens_per_s:.1f}",
        f"{generation.bandwidth_share:.0%}",
        f"{generation.first_token_s:.2f}",
        f"{generation.tokens_per_s_2023:.1f}",
        "" if then is None else f"{then:.2f}",
    ]


def _memory_line(row: ProfileRow) -> list[str]:
    then = FIGURES_2023.get(row.precision, {})
    shown = [f"{then[key]:.2f}" if then else "" for key in ("encode_gib", "generate_gib")]
    return [row.precision, f"{row.encode_bytes / _GIB:.2f}", f"{row.generate_bytes / _GIB:.2f}", *shown]


def _profile_figures(row: ProfileRow) -> dict[str, float]:
    figures: dict[str, float] = {"encode_gib": row.encode_bytes / _GIB, "generate_gib": row.generate_bytes / _GIB}
    for which in ("short", "long"):
        generation: Generation = getattr(row, which)
        figures |= {
            f"{which}_tokens": generation.num_tokens,
            f"{which}_tokens_per_s": generation.tokens_per_s,
            f"{which}_tokens_per_s_2023": generation.tokens_per_s_2023,
            f"{which}_first_token_s": generation.first_token_s,
            f"{which}_bandwidth_share": generation.bandwidth_share,
        }
    return {key: round(value, 4) for key, value in figures.items()}


def _table(head: list[str], lines: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines])


def _plot_perplexity(name: str, rows: Sequence[PerplexityRow], plot: Path) -> None:
    figure, axes = _figure()
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        axes.plot([row.length for row in own], [row.perplexity for row in own], marker="o", label=_title(name, method))
    axes.set(xscale="log", yscale="log", xlabel="tokens read at once", ylabel="perplexity", title=Path(name).name)
    axes.set_xticks(
        sorted({row.length for row in rows}), [f"{length:,}" for length in sorted({row.length for row in rows})]
    )
    axes.minorticks_off()
    axes.legend(frameon=False)
    figure.savefig(plot, dpi=150, bbox_inches="tight")


def _plot_profile(name: str, rows: Sequence[ProfileRow], plot: Path) -> None:
    figure, axes = _figure()
    width = 0.38
    for offset, which in ((-width / 2, "short"), (width / 2, "long")):
        speeds = [getattr(row, which).tokens_per_s for row in rows]
        label = f"{getattr(rows[0], which).num_tokens:,} tokens"
        bars = axes.bar([place + offset for place in range(len(rows))], speeds, width, label=label)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    axes.margins(y=0.25)
    axes.set(ylabel="tokens/s", title=f"{Path(name).name}, generating from one token")
    axes.set_xticks(range(len(rows)), [row.precision for row in rows])
    axes.legend(frameon=False)
    figure.savefig(plot, dpi=150, bbox_inches="tight")


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # half a second, for a plot alone

    figure = Figure(figsize=(7, 4.2))
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    return figure, axes
