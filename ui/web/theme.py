"""Colours, type and shapes of the page as a Gradio theme; `static/*.css` do the rest.

Only fonts that a system brings are named, those for Chinese and Japanese among them, so nothing is fetched.
"""

import gradio as gr
from gradio.themes import Color

_SANS = (
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Noto Sans",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic UI",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "sans-serif",
)
_MONO = ("ui-monospace", "SFMono-Regular", "Cascadia Mono", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
# From light to dark, as Gradio numbers them: 50, 100, 200 ... 900, 950.
_INK = Color(
    "#faf9f7",
    "#f3f1ed",
    "#e7e4de",
    "#d6d2ca",
    "#a8a39a",
    "#78736b",
    "#57534c",
    "#403d38",
    "#292724",
    "#1b1a18",
    "#121110",
)
_TEAL = Color(
    "#effaf8",
    "#d3f2ec",
    "#a7e4d9",
    "#73cfc1",
    "#41b3a5",
    "#1f978a",
    "#0f766e",
    "#115e59",
    "#134e4a",
    "#123f3d",
    "#082625",
)


def page_theme() -> gr.Theme:
    """A quiet theme: warm greys, one accent colour, no borders but where something can be typed."""
    theme = gr.themes.Base(
        primary_hue=_TEAL, secondary_hue=_TEAL, neutral_hue=_INK, font=list(_SANS), font_mono=list(_MONO)
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_900",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_shadow="none",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_500",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_400",
        button_primary_text_color="white",
        button_primary_text_color_dark="*neutral_950",
        slider_color="*primary_600",
        slider_color_dark="*primary_500",
    )
