"""The Qwen checkpoints we know: a table, and what it says about a name.

Sizes, windows and licences are those of the model cards and `config.json` files at huggingface.co/Qwen. A checkpoint
that is not in the table loads all the same; the table serves menus, estimates and the spelling of names.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from model_loader.checkpoint.footprint import Experts, LinearAttention, Shape

_QWEN, _QWEN_RESEARCH = "Tongyi Qianwen", "Tongyi Qianwen Research (not for commercial use)"
_APACHE, _QWEN_2024, _QWEN_2024_RESEARCH = "Apache-2.0", "Qwen", "Qwen Research (not for commercial use)"


@dataclass(frozen=True, slots=True)
class Entry:
    """One checkpoint.

    Attributes:
        name: on both hubs.
        shape: its sizes.
        context: its window without options, in tokens.
        licence: what its weights may be used under.
        bits: 4 or 8 for a GPTQ checkpoint, else 16.
        is_chat: whether it was taught to chat.
    """

    name: str
    shape: Shape
    context: int
    licence: str
    bits: int = 16
    is_chat: bool = True


def _rows(
    stem: str, endings: str, shape: Shape, context: int, licence: str, base: str = "", base_context: int | None = None
) -> Iterator[Entry]:
    """The checkpoints of one size: "-Chat|-Chat-Int4" and the like, and a base one unless `base` is "none"."""
    if base != "none":
        yield Entry(f"Qwen/{stem}{base}", shape, base_context or context, licence, is_chat=False)
    for ending in endings.split("|"):
        bits = 4 if ending.endswith("Int4") else 8 if ending.endswith("Int8") else 16
        yield Entry(f"Qwen/{stem}{ending}", shape, context, licence, bits)


def _qwen(layers: int, hidden: int, heads: int, feed_forward: int) -> Shape:
    return Shape("qwen", layers, hidden, heads, heads, 128, feed_forward, 152_064 if hidden > 4096 else 151_936)


def _qwen2(
    layers: int, hidden: int, heads: int, kv_heads: int, feed_forward: int, vocab: int, *, is_tied: bool = False
) -> Shape:
    return Shape("qwen2", layers, hidden, heads, kv_heads, hidden // heads, feed_forward, vocab, is_tied)


def _qwen3(layers: int, hidden: int, heads: int, kv_heads: int, feed_forward: int, *, is_tied: bool = False) -> Shape:
    return Shape("qwen3", layers, hidden, heads, kv_heads, 128, feed_forward, 151_936, is_tied)


def _qwen3_moe(layers: int, hidden: int, heads: int, experts: Experts) -> Shape:
    return Shape("qwen3_moe", layers, hidden, heads, 4 if experts.size < 2000 else 8, 128, 0, 151_936, False, experts)


def _qwen3_5(
    layers: int, hidden: int, heads: int, kv_heads: int, ff: int | Experts, values: int, *, is_tied: bool = False
) -> Shape:
    experts = ff if isinstance(ff, Experts) else None
    return Shape(
        "qwen3_5_moe" if experts else "qwen3_5", layers, hidden, heads, kv_heads, 256,
        0 if isinstance(ff, Experts) else ff, 248_320, is_tied, experts, LinearAttention(16, values),
    )  # fmt: skip


_CHAT = "-Chat|-Chat-Int4|-Chat-Int8"
_CHAT_GPTQ = "-Chat|-Chat-GPTQ-Int4|-Chat-GPTQ-Int8"
_INSTRUCT = "-Instruct|-Instruct-GPTQ-Int4|-Instruct-GPTQ-Int8"
_0_5B = _qwen2(24, 896, 14, 2, 4864, 151_936, is_tied=True)
_1_5B = _qwen2(28, 1536, 12, 2, 8960, 151_936, is_tied=True)
_3B = _qwen2(36, 2048, 16, 2, 11_008, 151_936, is_tied=True)
_7B = _qwen2(28, 3584, 28, 4, 18_944, 152_064)
_14B = _qwen2(48, 5120, 40, 8, 13_824, 152_064)
_32B = _qwen2(64, 5120, 40, 8, 27_648, 152_064)
_72B = _qwen2(80, 8192, 64, 8, 29_568, 152_064)
_4B_3 = _qwen3(36, 2560, 32, 8, 9728, is_tied=True)
_30B = _qwen3_moe(48, 2048, 32, Experts(128, 768))
_480B = _qwen3_moe(62, 6144, 96, Experts(160, 2560))
_NEXT = Shape("qwen3_next", 48, 2048, 16, 2, 256, 0, 151_936, False, Experts(512, 512, 512), LinearAttention(16, 32))

CATALOG: tuple[Entry, ...] = (
    # 2026
    *_rows("Qwen3.5-0.8B", "", _qwen3_5(24, 1024, 8, 2, 3584, 16, is_tied=True), 262_144, _APACHE, "-Base"),
    *_rows("Qwen3.5-2B", "", _qwen3_5(24, 2048, 8, 2, 6144, 16, is_tied=True), 262_144, _APACHE, "-Base"),
    *_rows("Qwen3.5-4B", "", _qwen3_5(32, 2560, 16, 4, 9216, 32, is_tied=True), 262_144, _APACHE, "-Base"),
    *_rows("Qwen3.5-9B", "", _qwen3_5(32, 4096, 16, 4, 12_288, 32), 262_144, _APACHE, "-Base"),
    *_rows("Qwen3.5-27B", "", _qwen3_5(64, 5120, 24, 4, 17_408, 48), 262_144, _APACHE, "none"),
    *_rows("Qwen3.5-35B-A3B", "", _qwen3_5(40, 2048, 16, 2, Experts(256, 512, 512), 32), 262_144, _APACHE, "-Base"),
    *_rows("Qwen3.5-122B-A10B", "", _qwen3_5(48, 3072, 32, 2, Experts(256, 1024, 1024), 64), 262_144, _APACHE, "none"),
    *_rows("Qwen3.5-397B-A17B", "", _qwen3_5(60, 4096, 32, 2, Experts(512, 1024, 1024), 64), 262_144, _APACHE, "none"),
    # 2025
    *_rows("Qwen3-0.6B", "|-GPTQ-Int8", _qwen3(28, 1024, 16, 8, 3072, is_tied=True), 40_960, _APACHE, "-Base", 32_768),
    *_rows("Qwen3-1.7B", "|-GPTQ-Int8", _qwen3(28, 2048, 16, 8, 6144, is_tied=True), 40_960, _APACHE, "-Base", 32_768),
    *_rows("Qwen3-4B", "", _4B_3, 40_960, _APACHE, "-Base", 32_768),
    *_rows("Qwen3-4B", "-Instruct-2507|-Thinking-2507", _4B_3, 262_144, _APACHE, "none"),
    *_rows("Qwen3-8B", "", _qwen3(36, 4096, 32, 8, 12_288), 40_960, _APACHE, "-Base", 32_768),
    *_rows("Qwen3-14B", "", _qwen3(40, 5120, 40, 8, 17_408), 40_960, _APACHE, "-Base", 32_768),
    *_rows("Qwen3-32B", "", _qwen3(64, 5120, 64, 8, 25_600), 40_960, _APACHE, "none"),
    *_rows("Qwen3-30B-A3B", "", _30B, 40_960, _APACHE, "-Base", 32_768),
    *_rows("Qwen3-30B-A3B", "-Instruct-2507|-Thinking-2507", _30B, 262_144, _APACHE, "none"),
    *_rows("Qwen3-Coder-30B-A3B", "-Instruct", _30B, 262_144, _APACHE, "none"),
    *_rows("Qwen3-235B-A22B", "", _qwen3_moe(94, 4096, 64, Experts(128, 1536)), 40_960, _APACHE, "none"),
    *_rows("Qwen3-Coder-480B-A35B", "-Instruct", _480B, 262_144, _APACHE, "none"),
    *_rows("Qwen3-Next-80B-A3B", "-Instruct|-Thinking", _NEXT, 262_144, _APACHE, "none"),
    # 2024
    *_rows("Qwen1.5-0.5B", _CHAT_GPTQ, _qwen2(24, 1024, 16, 16, 2816, 151_936, is_tied=True), 32_768, _QWEN_RESEARCH),
    *_rows("Qwen1.5-1.8B", _CHAT_GPTQ, _qwen2(24, 2048, 16, 16, 5504, 151_936), 32_768, _QWEN_RESEARCH),
    *_rows("Qwen1.5-4B", _CHAT_GPTQ, _qwen2(40, 2560, 20, 20, 6912, 151_936), 32_768, _QWEN_RESEARCH),
    *_rows("Qwen1.5-7B", _CHAT_GPTQ, _qwen2(32, 4096, 32, 32, 11_008, 151_936), 32_768, _QWEN),
    *_rows("Qwen1.5-14B", _CHAT_GPTQ, _qwen2(40, 5120, 40, 40, 13_696, 152_064), 32_768, _QWEN),
    *_rows("Qwen1.5-32B", "-Chat|-Chat-GPTQ-Int4", _qwen2(64, 5120, 40, 8, 27_392, 152_064), 32_768, _QWEN),
    *_rows("Qwen1.5-72B", _CHAT_GPTQ, _qwen2(80, 8192, 64, 64, 24_576, 152_064), 32_768, _QWEN),
    *_rows("Qwen1.5-110B", "-Chat|-Chat-GPTQ-Int4", _qwen2(80, 8192, 64, 8, 49_152, 152_064), 32_768, _QWEN),
    *_rows(
        "Qwen1.5-MoE-A2.7B",
        "-Chat",
        Shape("qwen2_moe", 24, 2048, 16, 16, 128, 0, 151_936, False, Experts(60, 1408, 5632)),
        8192,
        _QWEN,
    ),
    *_rows("Qwen2-0.5B", _INSTRUCT, _0_5B, 32_768, _APACHE, base_context=131_072),
    *_rows("Qwen2-1.5B", _INSTRUCT, _1_5B, 32_768, _APACHE, base_context=131_072),
    *_rows("Qwen2-7B", _INSTRUCT, _7B, 32_768, _APACHE, base_context=131_072),
    *_rows(
        "Qwen2-57B-A14B",
        "-Instruct",
        Shape("qwen2_moe", 28, 3584, 28, 4, 128, 0, 151_936, False, Experts(64, 2560, 20_480)),
        32_768,
        _APACHE,
        base_context=131_072,
    ),
    *_rows("Qwen2-72B", _INSTRUCT, _72B, 32_768, _QWEN, base_context=131_072),
    *_rows("Qwen2.5-0.5B", _INSTRUCT, _0_5B, 32_768, _APACHE),
    *_rows("Qwen2.5-1.5B", _INSTRUCT, _1_5B, 32_768, _APACHE, base_context=131_072),
    *_rows("Qwen2.5-3B", _INSTRUCT, _3B, 32_768, _QWEN_2024_RESEARCH),
    *_rows("Qwen2.5-7B", _INSTRUCT, _7B, 32_768, _APACHE, base_context=131_072),
    *_rows("Qwen2.5-14B", _INSTRUCT, _14B, 32_768, _APACHE, base_context=131_072),
    *_rows("Qwen2.5-32B", _INSTRUCT, _32B, 32_768, _APACHE, base_context=131_072),
    *_rows("Qwen2.5-72B", _INSTRUCT, _72B, 32_768, _QWEN_2024, base_context=131_072),
    *_rows("Qwen2.5-Coder-0.5B", _INSTRUCT, _0_5B, 32_768, _APACHE),
    *_rows("Qwen2.5-Coder-1.5B", _INSTRUCT, _1_5B, 32_768, _APACHE),
    *_rows("Qwen2.5-Coder-3B", _INSTRUCT, _3B, 32_768, _QWEN_2024_RESEARCH),
    *_rows("Qwen2.5-Coder-7B", _INSTRUCT, _7B, 32_768, _APACHE),
    *_rows("Qwen2.5-Coder-14B", _INSTRUCT, _14B, 32_768, _APACHE),
    *_rows("Qwen2.5-Coder-32B", _INSTRUCT, _32B, 32_768, _APACHE),
    *_rows("Qwen2.5-Math-1.5B", "-Instruct", _1_5B, 4096, _APACHE),
    *_rows("Qwen2.5-Math-7B", "-Instruct", _7B, 4096, _APACHE),
    *_rows("Qwen2.5-Math-72B", "-Instruct", _72B, 4096, _QWEN_2024),
    *_rows("QwQ-32B", "", _32B, 40_960, _APACHE, "none"),
    # 2023
    *_rows("Qwen-1_8B", _CHAT, _qwen(24, 2048, 16, 5504), 8192, _QWEN_RESEARCH),
    *_rows("Qwen-7B", _CHAT, _qwen(32, 4096, 32, 11_008), 8192, _QWEN),
    *_rows("Qwen-14B", _CHAT, _qwen(40, 5120, 40, 13_696), 8192, _QWEN),
    *_rows("Qwen-72B", _CHAT, _qwen(80, 8192, 64, 24_576), 32_768, _QWEN),
)  # fmt: skip

_BY_NAME = {entry.name.casefold(): entry for entry in CATALOG}


def find_entry(name: str) -> Entry | None:
    """The row of a name, whatever its letters' case; None for a checkpoint that is not in the table."""
    return _BY_NAME.get(name.casefold())


def nearest_names(name: str, number: int = 3) -> list[str]:
    """The names of the table that look most like a mistyped one, best first; [] when none does."""
    wanted = name.casefold()
    wanted = wanted if "/" in wanted else f"qwen/{wanted}"
    return [_BY_NAME[each].name for each in difflib.get_close_matches(wanted, _BY_NAME, n=number, cutoff=0.75)]


def spelling_advice(name: str) -> str:
    """What to say to somebody whose checkpoint was not found: the names that may have been meant."""
    names = [each for each in nearest_names(name) if each != name]
    return f"Did you mean {' or '.join(names)}?" if names else "Check the spelling; names look like Qwen/Qwen3-4B."
