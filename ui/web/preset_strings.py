"""The menu of presets and our own presets, in the page's languages; `strings` joins it with the rest."""

PRESET_STRINGS: dict[str, tuple[str, str, str]] = {
    "presets": ("Presets", "预设", "プリセット"),
    "presets_info": (
        "Choose one, or type a name and save what is set below.",
        "选择一个，或输入名称保存下面的设置。",
        "選ぶか、名前を入れて下の設定を保存します。",
    ),
    "save_preset": ("Save", "保存", "保存"),
    "forget_preset": ("Forget", "删除预设", "削除"),
    "preset_translator": ("Translator", "翻译", "翻訳"),
    "preset_translator_system": (
        "Translate everything the user writes into English, or into Chinese if it is English. Give the translation "
        "alone.",
        "把用户写的内容翻译成中文；如果原文是中文，则翻译成英文。只给出译文。",
        "ユーザーの文章を日本語に訳してください。日本語なら英語に訳します。訳文だけを答えてください。",
    ),
    "preset_editor": ("Editor", "编辑", "校正"),
    "preset_editor_system": (
        "Correct spelling, grammar and style of the user's text, keep its meaning and tone, then list your changes.",
        "修改用户文字中的错别字、语法和表达，保留原意和语气，然后列出改动。",
        "ユーザーの文章の誤字、文法、表現を直し、意味と調子は保ってください。そのあと変えた点を挙げてください。",
    ),
    "preset_coder": ("Programmer", "程序员", "プログラマー"),
    "preset_coder_system": (
        "You are an experienced programmer. Answer with short working code first, then explain in a few sentences.",
        "你是经验丰富的程序员。先给出简短可运行的代码，再用几句话解释。",
        "あなたは経験豊かなプログラマーです。まず短く動くコードを示し、そのあと数文で説明してください。",
    ),
    "preset_tutor": ("Tutor", "老师", "先生"),
    "preset_tutor_system": (
        "You are a patient tutor. Explain step by step in simple words, and end with one question to check.",
        "你是耐心的老师。用简单的话一步步讲解，最后提一个问题检查理解。",
        "あなたは根気強い先生です。やさしい言葉で順を追って説明し、最後に理解を確かめる質問を一つしてください。",
    ),
}
