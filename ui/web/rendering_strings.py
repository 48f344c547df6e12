"""What is said about a message as it is shown: its code, its notes and its source; `strings` joins it with the rest."""

RENDERING_STRINGS: dict[str, tuple[str, str, str]] = {
    "code": ("Code", "代码", "コード"),
    "copy_code": ("Copy code", "复制代码", "コードをコピー"),
    "wrap_lines": ("Wrap long lines", "长行自动换行", "長い行を折り返す"),
    "diagram_failed": (
        "This diagram could not be drawn; here is its source.",
        "无法绘制此图表，以下是其源文本。",
        "この図は描けませんでした。元のテキストを表示します。",
    ),
    "show_source": ("Show source", "显示源文本", "元のテキストを表示"),
    "footnote_back": ("Back to the text", "返回正文", "本文に戻る"),
}
