"""Everything the page says, in English, Chinese and Japanese: one table, and which column a browser reads.

`I18N` hands the static part to the browser; `say` forms the sentences that depend on figures. It knows no widgets.
"""

from collections.abc import Mapping
from typing import Literal

from ui.web.file_strings import FILE_STRINGS
from ui.web.preset_strings import PRESET_STRINGS
from ui.web.refusal_strings import REFUSAL_STRINGS
from ui.web.rendering_strings import RENDERING_STRINGS
from ui.web.transfer_strings import TRANSFER_STRINGS
from ui.web.watch_strings import WATCH_STRINGS

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
    "greeting_remote": (
        "What you write goes to this program and on to the server whose model answers.",
        "你写的内容会交给这个程序，再由它转交给运行模型的服务器。",
        "書いた内容はこのプログラムが受け取り、モデルが動いているサーバーへ送ります。",
    ),
    "starter_1": ("What can you do?", "你能做什么？", "あなたは何ができますか？"),
    "starter_2": ("Show me a table", "给我看一个表格", "表を見せてください"),
    "starter_3": ("Show me some code", "给我看一段代码", "コードの例を見せてください"),
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
    "min_p": ("Min-p", "Min-p", "Min-p"),
    "min_p_info": (
        "Drops words less likely than this share of the likeliest.",
        "去掉概率低于最可能词此比例的词。",
        "最有力な語のこの割合に満たない語を除きます。",
    ),
    "presence_penalty": ("Presence penalty", "存在惩罚", "存在ペナルティ"),
    "presence_penalty_info": (
        "Above 0 leads to new words.",
        "大于 0 时倾向使用新词。",
        "0 より大きいと新しい語を選びやすくなります。",
    ),
    "frequency_penalty": ("Frequency penalty", "频率惩罚", "頻度ペナルティ"),
    "frequency_penalty_info": (
        "Above 0 avoids frequent words.",
        "大于 0 时避免高频用词。",
        "0 より大きいと多く出た語を避けます。",
    ),
    "stop_strings": ("Stop at", "停止文本", "停止する文字列"),
    "stop_strings_info": (
        "One text to a line; the answer ends before it.",
        "每行一个；回答在其之前结束。",
        "1 行に 1 つ。回答はその手前で終わります。",
    ),
    "prefill": ("Begin every answer with", "回答以此开头", "回答の書き出し"),
    "prefill_info": (
        "The model goes on from its end.",
        "模型从其末尾继续。",
        "モデルはその続きを書きます。",
    ),
    "thinks": ("Think before answering", "先思考再回答", "考えてから答える"),
    "more_settings": ("More", "更多", "その他"),
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
    "loading_server": ("Asking the server", "正在询问服务器", "サーバーに問い合わせています"),
    "loading_ready": ("Ready", "就绪", "準備完了"),
    "loading_note": (
        "You can write already; the answer comes as soon as the model is there.",
        "现在就可以输入，模型就绪后会立即回答。",
        "もう入力できます。モデルの準備ができ次第お答えします。",
    ),
    "load_failed": ("The model could not be loaded", "模型无法加载", "モデルを読み込めませんでした"),
    "unhealthy": ("The model is in trouble", "模型出现故障", "モデルに問題が起きています"),
    # under an answer
    "queued": (
        "Place {ahead} of {waiting} in the queue",
        "排队第 {ahead} 位，共 {waiting} 位",
        "順番待ち：{waiting} 人中 {ahead} 番目",
    ),
    "reading": ("Reading", "正在阅读", "読んでいます"),
    "reading_tokens": (
        "Reading {read} of {tokens} tokens",
        "正在阅读：{read} / {tokens} 个 token",
        "{tokens} トークン中 {read} まで読みました",
    ),
    "thinking": ("Thinking", "正在思考", "考えています"),
    "thinking_since": ("Thinking for {seconds} s", "已思考 {seconds} 秒", "考え始めて {seconds} 秒"),
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
        "Interrupted",
        "已中断",
        "中断されました",
    ),
    "left_out": (
        "The {messages} messages above no longer fit the model's window; it reads from here on.",
        "上面 {messages} 条消息已超出模型的窗口，模型从这里开始读取。",
        "上の {messages} 件のメッセージはモデルのコンテキスト長に収まらず、モデルはここから読みます。",
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
    "previous_version": ("Previous version", "上一个版本", "前の版"),
    "next_version": ("Next version", "下一个版本", "次の版"),
    "edit": ("Edit and ask again", "编辑并重新提问", "編集して聞き直す"),
    "edit_answer": ("Edit this answer", "编辑此回答", "この回答を編集"),
    "edited": ("Edited", "已编辑", "編集済み"),
    "go_on": ("Continue this answer", "继续此回答", "この回答を続ける"),
    "branch": ("Branch into a new conversation", "从这里另开对话", "ここから新しい会話に分ける"),
    "take_back": ("Take back the last turn", "撤回最后一轮", "最後のやりとりを取り消す"),
    "editing": ("Editing an earlier message", "正在编辑之前的消息", "前のメッセージを編集しています"),
    "cancel": ("Cancel", "取消", "キャンセル"),
    # the list of conversations
    "history": ("Conversations", "对话列表", "会話の一覧"),
    "new_conversation": ("New conversation", "新对话", "新しい会話"),
    "search": ("Search titles and messages", "搜索标题和消息", "タイトルと内容を検索"),
    "untitled": ("Untitled", "无标题", "無題"),
    "group_pinned": ("Pinned", "已置顶", "固定"),
    "group_today": ("Today", "今天", "今日"),
    "group_yesterday": ("Yesterday", "昨天", "昨日"),
    "group_week": ("Last seven days", "最近七天", "過去7日間"),
    "group_earlier": ("Earlier", "更早", "それ以前"),
    "pin": ("Pin", "置顶", "固定する"),
    "unpin": ("Unpin", "取消置顶", "固定を外す"),
    "rename": ("Rename", "重命名", "名前を変える"),
    "to_trash": ("Delete", "删除", "削除"),
    "restore": ("Restore", "恢复", "復元"),
    "trashed": ("Deleted “{title}”.", "已删除“{title}”。", "「{title}」を削除しました。"),
    "trash": ("Trash", "回收站", "ごみ箱"),
    "back_to_list": ("Back to conversations", "返回对话列表", "会話の一覧へ戻る"),
    "empty_trash": ("Empty the trash", "清空回收站", "ごみ箱を空にする"),
    "delete_everything": ("Delete all my data", "删除我的全部数据", "自分のデータをすべて削除"),
    "really": ("Really? This cannot be undone.", "确定吗？此操作无法撤销。", "本当に？元に戻せません。"),
    "more_conversations": ("Show more", "显示更多", "もっと表示"),
    "nothing_found": ("Nothing found.", "没有找到。", "見つかりませんでした。"),
    # the keyboard
    "keys": ("Keyboard shortcuts", "键盘快捷键", "キーボード操作"),
    "key_send": ("Send the message", "发送消息", "メッセージを送信"),
    "key_line": ("New line", "换行", "改行"),
    "key_stop": (
        "Stop the answer, or close what is open",
        "停止回答，或关闭打开的窗口",
        "回答を止める、開いたものを閉じる",
    ),
    "key_edit": (
        "Edit your last message, in an empty box",
        "输入框为空时，修改上一条消息",
        "入力欄が空のとき、直前の発言を直す",
    ),
    "key_new": ("New conversation", "新对话", "新しい会話"),
    "key_search": ("Search conversations", "搜索对话", "会話を検索"),
    "key_keys": ("Show these shortcuts", "显示快捷键", "この一覧を表示"),
    "trash_empty": ("The trash is empty.", "回收站是空的。", "ごみ箱は空です。"),
    "no_conversations": ("Your conversations will appear here.", "你的对话会显示在这里。", "会話はここに並びます。"),
    "trash_note": (
        "What is here is deleted for good after {days} days.",
        "这里的内容将在 {days} 天后彻底删除。",
        "ここにあるものは {days} 日後に完全に削除されます。",
    ),
    "not_saved": (
        "The conversations cannot be saved now ({problem}). What you see stays here and is saved as soon as it works.",
        "对话暂时无法保存（{problem}）。当前内容会保留，恢复后自动保存。",
        "会話を保存できません（{problem}）。表示中の内容は保たれ、可能になり次第保存されます。",
    ),
    "set_aside": (
        "The file with earlier conversations was damaged. It was set aside, not deleted; a new one was begun.",
        "保存对话的文件已损坏。原文件已另行保留，并新建了文件。",
        "以前の会話のファイルが壊れていました。削除せずに別に保管し、新しいファイルを作りました。",
    ),
    # before sending
    "meter": (
        "{tokens} of {max_tokens} tokens",
        "{tokens} / {max_tokens} 个 token",
        "{tokens} / {max_tokens} トークン",
    ),
    "meter_cached": ("{tokens} known from before", "其中 {tokens} 个已读", "うち {tokens} は既読"),
    "meter_seconds": ("first word in about {seconds} s", "约 {seconds} 秒后开始回答", "約 {seconds} 秒で答え始めます"),
    "meter_left_out": (
        "the {messages} oldest messages have no room",
        "最早的 {messages} 条消息放不下",
        "最も古い {messages} 件は入りません",
    ),
    # the receipt of an answer
    "receipt": ("How this answer was made", "此回答是如何生成的", "この回答の作られ方"),
    "close": ("Close", "关闭", "閉じる"),
    "checkpoint": ("Checkpoint", "检查点", "チェックポイント"),
    "revision": ("Revision", "版本", "リビジョン"),
    "format": ("Format", "格式", "形式"),
    "template": ("Chat template", "对话模板", "チャットテンプレート"),
    "sampling": ("Sampling", "采样", "サンプリング"),
    "copy_curl": ("As a curl command", "curl 命令", "curl コマンド"),
    "copy_python": ("As a Python program", "Python 程序", "Python プログラム"),
    "reproduce": ("Run it again", "重新运行", "もう一度実行"),
    "reproducing": ("Running again…", "正在重新运行…", "実行しています…"),
    "identical": (
        "Identical: {characters} characters",
        "完全相同：{characters} 个字符",
        "完全に一致：{characters} 文字",
    ),
    "differs": (
        "Different from character {at} on: “{ours}” was “{theirs}”",
        "从第 {at} 个字符起不同：“{ours}”，原为“{theirs}”",
        "{at} 文字目から異なります：「{ours}」、元は「{theirs}」",
    ),
    "other_model": (
        "Another model is loaded now ({name}).",
        "当前加载的是另一个模型（{name}）。",
        "いまは別のモデルが読み込まれています（{name}）。",
    ),
    "earlier": ("Show {messages} earlier messages", "显示更早的 {messages} 条消息", "前の {messages} 件を表示"),
    **FILE_STRINGS,
    **PRESET_STRINGS,
    **REFUSAL_STRINGS,
    **RENDERING_STRINGS,
    **TRANSFER_STRINGS,
    **WATCH_STRINGS,
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
