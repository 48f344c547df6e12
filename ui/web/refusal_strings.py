"""Why something that a user asked for is not done, in the page's languages; `strings` joins it with the rest."""

REFUSAL_STRINGS: dict[str, tuple[str, str, str]] = {
    "refused_still_answering": (
        "The last answer is still being written. Stop it first, or wait; your text stays here.",
        "上一个回答还在进行。请先停止或稍候，你的文字会保留在这里。",
        "前の回答を書いている途中です。停止するか、お待ちください。入力した文はそのまま残ります。",
    ),
    "refused_too_long": (
        "This message is too long: {limit} bytes at most. Attach it as a file; your text stays here.",
        "消息太长：最多 {limit} 字节。请改为附加文件；你的文字会保留在这里。",
        "メッセージが長すぎます。上限は {limit} バイトです。ファイルとして添付してください。入力した文は残ります。",
    ),
    "refused_empty": ("Write something first.", "请先输入内容。", "まず何か入力してください。"),
    "refused_conversation_full": (
        "This conversation is full ({limit} bytes). Begin a new one; your text stays here.",
        "此对话已满（{limit} 字节）。请新建对话，你的文字会保留在这里。",
        "この会話はいっぱいです（{limit} バイト）。新しい会話を始めてください。入力した文はそのまま残ります。",
    ),
    "refused_history_full": (
        "There is no room for more ({limit} bytes). Delete old conversations, empty the trash; your text stays here.",
        "空间已满（{limit} 字节）。请删除旧对话并清空回收站，你的文字会保留在这里。",
        "空きがありません（{limit} バイト）。古い会話とごみ箱の中身を削除してください。入力した文は残ります。",
    ),
    "refused_too_many": (
        "There are too many already ({limit}). Delete some first.",
        "数量已达上限（{limit}）。请先删除一些。",
        "数が上限です（{limit}）。先にいくつか削除してください。",
    ),
    "refused_nothing_to_continue": (
        "This answer cannot go on: it has ended, or something follows it.",
        "此回答无法继续：它已结束，或后面已有内容。",
        "この回答は続けられません。完結しているか、後に続きがあります。",
    ),
    "refused_nothing_to_repeat": (
        "That answer is no longer here. Reload the page.",
        "那个回答已不存在。请重新加载页面。",
        "その回答はもうありません。ページを再読み込みしてください。",
    ),
    "refused_tokens_spent": (
        "You have used the {limit} tokens of this hour. Go on a little later; your text stays here.",
        "你已用完本小时的 {limit} 个 token，请稍后继续。你的文字会保留在这里。",
        "この 1 時間の {limit} トークンを使い切りました。少し後で続けてください。入力した文はそのまま残ります。",
    ),
    "refused_enough_at_once": (
        "{limit} answers are being written for you. Wait for one to end; your text stays here.",
        "正在为你生成 {limit} 个回答，请等其中一个结束。你的文字会保留在这里。",
        "{limit} 件の回答を書いている途中です。終わるまでお待ちください。入力した文はそのまま残ります。",
    ),
    "refused_closing": ("The program is ending.", "程序正在退出。", "プログラムを終了しています。"),
    "refused_no_conversation": (
        "The page has lost its conversation. Reload it; your text stays here.",
        "页面与对话失去联系。请重新加载，你的文字会保留。",
        "ページが会話を見失いました。再読み込みしてください。入力した文は残ります。",
    ),
}
