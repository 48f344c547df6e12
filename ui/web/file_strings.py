"""What the page says about attached files; `strings` joins it with the rest."""

FILE_STRINGS: dict[str, tuple[str, str, str]] = {
    "attach": ("Attach files", "添加附件", "ファイルを添付"),
    "attached_files": ("Attached files", "附件", "添付ファイル"),
    "file_open": ("Show the text of {name}", "查看 {name} 的文字", "{name} のテキストを表示"),
    "file_remove": ("Remove {name}", "移除 {name}", "{name} を外す"),
    "file_characters": ("{characters} characters", "{characters} 个字符", "{characters} 文字"),
    "file_cut": ("the first {shown} are shown", "显示前 {shown} 个", "最初の {shown} 文字を表示"),
    "meter_over": (
        "{tokens} tokens and {answer} for the answer are more than the {window} that the model reads. Shorten the "
        "question, remove a file, or ask for a shorter answer.",
        "需要 {tokens} 个 token，回答另需 {answer} 个，超过模型能读取的 {window} 个。请缩短问题、移除附件或缩短回答。",
        "{tokens} トークンと回答用の {answer} トークンは、モデルが読める {window} トークンを超えます。"
        "質問を短くするか、ファイルを外すか、回答を短くしてください。",
    ),
    "file_empty": (
        "{name} is empty; nothing was attached.",
        "{name} 是空文件，未添加。",
        "{name} は空です。添付しませんでした。",
    ),
    "file_too_large": (
        "{name} has {size} bytes; {limit} are read at most. Attach a part of it.",
        "{name} 有 {size} 字节，最多读取 {limit} 字节。请只添加其中一部分。",
        "{name} は {size} バイトです。読めるのは {limit} バイトまでです。一部だけを添付してください。",
    ),
    "file_too_long": (
        "With {name} there would be {found} characters of files; {limit} go with a question. Attach a part of it.",
        "加上 {name} 后附件共 {found} 个字符，一个问题最多 {limit} 个。请只添加其中一部分。",
        "{name} を加えると {found} 文字になります。一つの質問に添付できるのは {limit} 文字までです。"
        "一部だけを添付してください。",
    ),
    "file_too_many": (
        "{name} was not attached: a question takes {limit} files. Remove one first, or join them.",
        "未添加 {name}：一个问题最多 {limit} 个附件。请先移除一个，或将文件合并。",
        "{name} は添付しませんでした。一つの質問に {limit} 個までです。先に一つ外すか、まとめてください。",
    ),
    "file_other_kind": (
        "{name} is no text; its content is {found}. Save it as text, CSV or PDF and attach that.",
        "{name} 不是文本，其内容为 {found}。请另存为文本、CSV 或 PDF 后再添加。",
        "{name} はテキストではなく、中身は {found} です。テキスト、CSV、PDF として保存し、それを添付してください。",
    ),
    "file_binary": (
        "{name} is no text; it holds binary data. Attach text, Markdown, code, CSV or PDF.",
        "{name} 不是文本，而是二进制数据。可添加文本、Markdown、代码、CSV 或 PDF。",
        "{name} はテキストではなく、バイナリデータです。テキスト、Markdown、コード、CSV、PDF を添付してください。",
    ),
    "file_encoding": (
        "{name} is no UTF-8 (byte {byte} in line {line}). Save it as UTF-8 and attach it again.",
        "{name} 不是 UTF-8 编码（第 {line} 行的字节 {byte}）。请另存为 UTF-8 后再添加。",
        "{name} は UTF-8 ではありません（{line} 行目のバイト {byte}）。UTF-8 で保存し直して添付してください。",
    ),
    "file_encrypted": (
        "{name} is locked with a password. Save it without one and attach it again.",
        "{name} 有密码保护。请另存为无密码的文件后再添加。",
        "{name} にはパスワードがかかっています。外して保存し、もう一度添付してください。",
    ),
    "file_no_text": (
        "{name} holds no text, only pictures perhaps. Run text recognition (OCR) over it and attach the result.",
        "{name} 中没有文字，可能只有图片。请先进行文字识别（OCR）再添加。",
        "{name} には文字がなく、画像だけかもしれません。文字認識（OCR）をかけてから添付してください。",
    ),
    "file_too_many_pages": (
        "{name} has {found} pages; {limit} are read at most. Print the pages you need into a PDF of their own.",
        "{name} 有 {found} 页，最多读取 {limit} 页。请把需要的页面另存为一个 PDF。",
        "{name} は {found} ページです。読めるのは {limit} ページまでです。必要なページだけの PDF を作ってください。",
    ),
    "file_too_slow": (
        "Reading {name} took longer than {limit} seconds. Attach fewer pages, or its text.",
        "读取 {name} 超过了 {limit} 秒。请减少页数，或添加其文字。",
        "{name} の読み取りに {limit} 秒以上かかりました。ページを減らすか、テキストを添付してください。",
    ),
    "file_too_heavy": (
        "{name} needs more memory than a file may have. Attach fewer pages, or its text.",
        "读取 {name} 所需的内存过多。请减少页数，或添加其文字。",
        "{name} の読み取りにはメモリーが足りません。ページを減らすか、テキストを添付してください。",
    ),
    "file_damaged": (
        "{name} is a damaged PDF. Print it into a new PDF and attach that.",
        "{name} 是损坏的 PDF。请重新打印成新的 PDF 后再添加。",
        "{name} は壊れた PDF です。新しい PDF に印刷し直して添付してください。",
    ),
    "file_busy": (
        "Other files are being read; {name} had to wait too long. Attach it again in a moment.",
        "正在读取其他文件，{name} 等待过久。请稍后再添加。",
        "ほかのファイルを読んでいるため {name} は待ちすぎました。少し後でもう一度添付してください。",
    ),
    "file_lost": (
        "{name} did not arrive or is no longer there. Attach it again; your text stays here.",
        "{name} 未送达或已不在。请重新添加，你的文字会保留在这里。",
        "{name} は届かなかったか、もうありません。もう一度添付してください。入力した文はそのまま残ります。",
    ),
    "file_window": (
        "With {name} the question takes {found} tokens; with room for the answer the model reads {limit}. Attach a "
        "part of it, or load a model with a larger window.",
        "加上 {name} 后问题需要 {found} 个 token，除去回答的空间，模型只能读取 {limit} 个。"
        "请只添加一部分，或加载窗口更大的模型。",
        "{name} を含む質問は {found} トークンですが、回答の余地を残すとモデルが読めるのは {limit} トークンです。"
        "一部だけを添付するか、コンテキスト長の大きいモデルを読み込んでください。",
    ),
}
