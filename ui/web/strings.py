"""Everything the page says, in English, Chinese and Japanese: one table, and which column a browser reads.

`I18N` hands the static part to the browser; `say` forms the sentences that depend on figures. It knows no widgets.
"""

from collections.abc import Mapping
from typing import Literal

Language = Literal["en", "zh", "ja"]
LANGUAGES: tuple[Language, ...] = ("en", "zh", "ja")
STARTERS = ("starter_1", "starter_2", "starter_3", "starter_4", "starter_5")

_TABLE: dict[str, tuple[str, str, str]] = {
    # the frame
    "title": ("Qwen chat", "Qwen 聊天", "Qwen チャット"),
    "clear": ("Start over", "重新开始", "新しく始める"),
    "settings": ("Settings", "设置", "設定"),
    "undo": ("Undo", "撤销", "元に戻す"),
    "cleared": ("The conversation was put away.", "对话已收起。", "会話を片づけました。"),
    "conversation": ("Conversation", "对话", "会話"),
    "to_end": ("To the newest message", "回到最新消息", "最新のメッセージへ"),
    # continuing a text
    "mode_text": ("Text", "文本", "文章"),
    "mode_chat": ("Chat", "对话", "チャット"),
    "continue": ("Continue", "续写", "続ける"),
    "draft": ("Text to continue", "要续写的文本", "続きを書くテキスト"),
    "draft_placeholder": (
        "Begin a text; the model goes on from its end.",
        "写个开头，模型会从末尾接着写。",
        "書き出しを入れると、モデルが最後から続きを書きます。",
    ),
    # the composer
    "message": ("Your message", "你的消息", "メッセージ"),
    "placeholder": ("Ask anything…", "想问点什么？", "何でも聞いてください…"),
    "send": ("Send", "发送", "送信"),
    "stop": ("Stop", "停止", "停止"),
    "hint": (
        "Answers can be wrong; check what matters.",
        "回答可能有误，重要内容请自行核实。",
        "回答は誤ることがあります。大切なことは確かめてください。",
    ),
    # the empty page
    "greeting": ("What shall we work on?", "今天想聊点什么？", "何から始めましょうか？"),
    "greeting_more": (
        "What you write goes to this program and nowhere else.",
        "你写的内容只交给这个程序，不会传往别处。",
        "書いた内容はこのプログラムだけが受け取り、ほかへは送られません。",
    ),
    "starter_1": ("What can you do?", "你能做什么？", "あなたは何ができますか？"),
    "starter_2": ("Show me a table", "给我看一个表格", "表を見せてください"),
    "starter_3": ("Write a short Python function", "写一个简短的 Python 函数", "短い Python 関数を書いてください"),
    "starter_4": ("Show me a formula", "给我看一个公式", "数式を見せてください"),
    "starter_5": ("How do I load a bigger model?", "如何加载更大的模型？", "もっと大きなモデルを読み込むには？"),
    # the side panel
    "context_length": (
        "Reads {tokens} tokens at most",
        "最多读取 {tokens} 个 token",
        "最大 {tokens} トークンを読みます",
    ),
    "model_menu": ("Model", "模型", "モデル"),
    "model_menu_info": (
        "A name from the list, any other of a hub, or a folder.",
        "从列表中选择，也可填写其他模型名称或文件夹。",
        "一覧の名前、ハブの別の名前、またはフォルダー。",
    ),
    "switch": ("Load this model", "加载此模型", "このモデルを読み込む"),
    "model_fits": (
        "{size} of weights: {reason}. Reads {context} tokens. Licence: {licence}.",
        "权重 {size}：{reason}。最多读取 {context} 个 token。许可证：{licence}。",
        "重み {size}：{reason}。{context} トークンを読みます。ライセンス：{licence}。",
    ),
    "model_does_not_fit": (
        "Does not fit: {reason} Licence: {licence}.",
        "放不下：{reason} 许可证：{licence}。",
        "入りません：{reason} ライセンス：{licence}。",
    ),
    "model_unknown": (
        "Not in the list; what it needs shows when it is loaded.",
        "不在列表中，加载时才知道需要多少内存。",
        "一覧にありません。必要な量は読み込むときにわかります。",
    ),
    "too_large": ("does not fit", "放不下", "入りません"),
    "switch_failed": (
        "The other model could not be loaded; this one is back",
        "另一个模型无法加载，已恢复原来的模型",
        "別のモデルを読み込めなかったため、元に戻しました",
    ),
    "came_from": ("Fetched from {source}", "来自 {source}", "取得元：{source}"),
    "no_model_yet": ("Not loaded yet", "尚未加载", "まだ読み込まれていません"),
    "system": ("System prompt", "系统提示词", "システムプロンプト"),
    "system_info": (
        "What the model is told before the conversation.",
        "对话开始之前告诉模型的话。",
        "会話の前にモデルへ伝える内容です。",
    ),
    "temperature": ("Temperature", "温度", "温度"),
    "temperature_info": (
        "0 always takes the likeliest word.",
        "0 表示总是选最可能的词。",
        "0 では常に最もありそうな語を選びます。",
    ),
    "top_p": ("Top-p", "Top-p", "Top-p"),
    "top_p_info": (
        "Keeps the likeliest words up to this share.",
        "只保留累计概率在此以内的词。",
        "この割合までの有力な語だけを残します。",
    ),
    "top_k": ("Top-k", "Top-k", "Top-k"),
    "top_k_info": (
        "Keeps this many words; 0 keeps all.",
        "只保留这么多个词；0 表示全部保留。",
        "この数の語だけを残します。0 はすべて。",
    ),
    "repetition_penalty": ("Repetition penalty", "重复惩罚", "繰り返しペナルティ"),
    "repetition_penalty_info": (
        "Above 1 avoids repeating words.",
        "大于 1 时避免重复用词。",
        "1 より大きいと繰り返しを避けます。",
    ),
    "max_new_tokens": ("Longest answer, in tokens", "回答的最大长度（token）", "回答の最大長（トークン）"),
    "max_new_tokens_info": (
        "The answer is cut there.",
        "回答到此为止。",
        "回答はここで打ち切られます。",
    ),
    "seed": ("Seed", "随机种子", "シード"),
    "seed_info": (
        "The same seed gives the same answer; empty draws afresh.",
        "相同的种子得到相同的回答；留空则每次不同。",
        "同じシードなら同じ答えになります。空なら毎回変わります。",
    ),
    "reset": ("Back to the model's defaults", "恢复模型默认值", "モデルの既定値に戻す"),
    # the load
    "loading_libraries": ("Starting", "正在启动", "起動しています"),
    "loading_download": ("Fetching the model", "正在获取模型", "モデルを取得しています"),
    "loading_weights": ("Reading the weights", "正在读取权重", "重みを読み込んでいます"),
    "loading_warm_up": ("Warming up", "正在预热", "ウォームアップ中"),
    "loading_ready": ("Ready", "就绪", "準備完了"),
    "loading_note": (
        "You can write already; the answer comes as soon as the model is there.",
        "现在就可以输入，模型就绪后会立即回答。",
        "もう入力できます。モデルの準備ができ次第お答えします。",
    ),
    "load_failed": ("The model could not be loaded", "模型无法加载", "モデルを読み込めませんでした"),
    "unhealthy": ("The model is in trouble", "模型出现故障", "モデルに問題が起きています"),
    # under an answer
    "queued": ("Place {ahead} in the queue", "排在第 {ahead} 位", "順番待ち：{ahead} 番目"),
    "reading": ("Reading", "正在阅读", "読んでいます"),
    "reading_tokens": (
        "Reading {read} of {tokens} tokens",
        "正在阅读：{read} / {tokens} 个 token",
        "{tokens} トークン中 {read} まで読みました",
    ),
    "thinking": ("Thinking", "正在思考", "考えています"),
    "thought": ("Thought for {seconds} s", "思考了 {seconds} 秒", "{seconds} 秒考えました"),
    "writing": ("Writing", "正在书写", "書いています"),
    "token": ("{tokens} token", "{tokens} 个 token", "{tokens} トークン"),
    "tokens": ("{tokens} tokens", "{tokens} 个 token", "{tokens} トークン"),
    "speed": ("{speed} tokens/s", "{speed} token/秒", "{speed} トークン/秒"),
    "first_token": ("first after {seconds} s", "首个 token {seconds} 秒", "最初のトークンまで {seconds} 秒"),
    "cached": ("{tokens} known from before", "{tokens} 个此前已读", "{tokens} は既読"),
    "cut": ("cut at the longest answer", "已达最大长度", "最大長で打ち切り"),
    "stopped": ("Stopped", "已停止", "停止しました"),
    "interrupted": (
        "Interrupted: nobody was looking",
        "已中断：页面已关闭",
        "中断：ページが閉じられました",
    ),
    "left_out": (
        "The {messages} messages above no longer fit the model's window; it reads from here on.",
        "上面 {messages} 条消息已超出模型的窗口，模型从这里开始读取。",
        "上の {messages} 件のメッセージはモデルの窓に収まらず、モデルはここから読みます。",
    ),
    "left_out_short": (
        "without the {messages} oldest messages",
        "未含最早的 {messages} 条消息",
        "最も古い {messages} 件を除く",
    ),
    "fault": (
        "Something went wrong in this program. Its log names this fault {fault_id}.",
        "程序内部出错。日志中的编号是 {fault_id}。",
        "プログラムの内部で問題が起きました。ログでの番号は {fault_id} です。",
    ),
    "copy": ("Copy", "复制", "コピー"),
    "regenerate": ("Answer again", "重新回答", "もう一度答える"),
    "previous_answer": ("Previous answer", "上一个回答", "前の回答"),
    "next_answer": ("Next answer", "下一个回答", "次の回答"),
    "earlier": ("Show {messages} earlier messages", "显示更早的 {messages} 条消息", "前の {messages} 件を表示"),
    # what is refused
    "refused_still_answering": (
        "The last answer is still being written. Stop it first, or wait; your text stays here.",
        "上一个回答还在进行。请先停止或稍候，你的文字会保留在这里。",
        "前の回答を書いている途中です。停止するか、お待ちください。入力した文はそのまま残ります。",
    ),
    "refused_too_long": (
        "This message is too long: {limit} bytes at most. Your text stays here.",
        "消息太长：最多 {limit} 字节。你的文字会保留在这里。",
        "メッセージが長すぎます。上限は {limit} バイトです。入力した文はそのまま残ります。",
    ),
    "refused_empty": ("Write something first.", "请先输入内容。", "まず何か入力してください。"),
    "refused_conversation_full": (
        "This conversation is full ({limit} bytes). Open the page in a new tab for another one.",
        "此对话已满（{limit} 字节）。请在新标签页中打开本页以开始新的对话。",
        "この会話はいっぱいです（{limit} バイト）。新しいタブで開くと別の会話を始められます。",
    ),
    "refused_too_many": (
        "Too many conversations are open ({limit}). Close a tab and reload.",
        "打开的对话过多（{limit} 个）。请关闭一个标签页后重新加载。",
        "開いている会話が多すぎます（{limit} 件）。タブを閉じてから再読み込みしてください。",
    ),
    "refused_nothing_to_repeat": (
        "That answer is no longer here. Reload the page.",
        "那个回答已不存在。请重新加载页面。",
        "その回答はもうありません。ページを再読み込みしてください。",
    ),
    "refused_closing": ("The program is ending.", "程序正在退出。", "プログラムを終了しています。"),
    "refused_no_conversation": (
        "The page has lost its conversation. Reload it; your text stays here.",
        "页面与对话失去联系。请重新加载，你的文字会保留。",
        "ページが会話を見失いました。再読み込みしてください。入力した文は残ります。",
    ),
}


def say(language: Language, key: str, **figures: object) -> str:
    """The text with this key in one language, its figures filled in."""
    return _TABLE[key][LANGUAGES.index(language)].format(**figures)


def language_of(accept_language: str | None) -> Language:
    """The language of a browser by the first entry of its Accept-Language header; English if we do not speak it.

    Only the first entry counts, because the browser chooses the static strings by that one as well.
    """
    first = (accept_language or "").split(",")[0].strip().lower()
    return next((language for language in LANGUAGES if first.split(";")[0].split("-")[0] == language), "en")


def static_strings() -> Mapping[str, dict[str, str]]:
    """The table as the browser wants it: one dictionary for each language tag it may ask for."""
    english, chinese, japanese = ({key: row[at] for key, row in _TABLE.items()} for at in range(len(LANGUAGES)))
    return {"en": english, "ja": japanese, **dict.fromkeys(("zh", "zh-CN", "zh-TW", "zh-HK", "zh-SG"), chinese)}
