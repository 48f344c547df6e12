"""What the page says about an answer's language and about answers that repeat themselves; `strings` joins it with the
rest."""

WATCH_STRINGS: dict[str, tuple[str, str, str]] = {
    "answer_in": ("Answer in", "回答语言", "回答の言語"),
    "answer_in_info": (
        "Asked of the model in that language; you are told when an answer leaves it.",
        "用该语言向模型提出要求；回答偏离时会提示。",
        "その言語でモデルに頼み、回答が外れたら知らせます。",
    ),
    "language_free": ("Any", "不限", "指定なし"),
    "stops_loops": ("Stop answers that repeat themselves", "停止不断重复的回答", "同じことを繰り返す回答を止める"),
    "looped": ("Stopped: it repeated itself", "已停止：内容不断重复", "停止：同じ内容の繰り返し"),
    "looped_tail": (
        "{characters} characters that only repeat it",
        "仅为重复的 {characters} 个字符",
        "繰り返しの {characters} 文字",
    ),
    "looped_thoughts": (
        "Its thoughts repeat themselves.",
        "思考内容不断重复。",
        "思考が同じ内容を繰り返しています。",
    ),
    "loop_keep": ("Keep it", "保留", "このまま残す"),
    "loop_penalty": ("Continue with a penalty", "加重复惩罚后继续", "ペナルティを付けて続ける"),
    "loop_warmer": ("Continue at a higher temperature", "提高温度后继续", "温度を上げて続ける"),
    "drifted": (
        "Not in {name} from here on: “{excerpt}”",
        "从这里起不是{name}：“{excerpt}”",
        "ここから{name}ではありません：「{excerpt}」",
    ),
    "drift_redo": ("Redo in {name} from there", "从该处用{name}重写", "そこから{name}で書き直す"),
}
LANGUAGE_NAMES = {"en": "English", "zh": "中文", "ja": "日本語"}
"""Each in itself."""
