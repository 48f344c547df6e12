"""What the page says about files with conversations; `strings` joins it with the rest."""

TRANSFER_STRINGS: dict[str, tuple[str, str, str]] = {
    "transfer": ("Export and import", "导出与导入", "書き出しと読み込み"),
    "export_shown": ("This conversation", "当前对话", "この会話"),
    "export_html": ("Web page, to read and print", "网页，便于阅读和打印", "ウェブページ（閲覧・印刷用）"),
    "export_md": ("Markdown", "Markdown", "Markdown"),
    "export_json": ("JSON, with every version", "JSON，含全部版本", "JSON（すべての版を含む）"),
    "export_all": ("All conversations", "全部对话", "すべての会話"),
    "export_zip": ("Archive (ZIP)", "压缩包（ZIP）", "アーカイブ（ZIP）"),
    "import_file": ("Import a file…", "导入文件…", "ファイルを読み込む…"),
    "you": ("You", "你", "あなた"),
    "exported_about": (
        "{messages} messages · last changed {date}",
        "{messages} 条消息 · 最后修改 {date}",
        "{messages} 件のメッセージ · 最終更新 {date}",
    ),
    "exported_note": (
        "Written by Qwen chat. The file holds the whole conversation as data (messages of other versions: {hidden}); "
        "import it to go on with it.",
        "由 Qwen 聊天导出。文件中以数据形式包含整个对话（其他版本的消息：{hidden} 条），导入后可继续。",
        "Qwen チャットから書き出しました。会話全体（別の版のメッセージ：{hidden} 件）がデータとして入っており、"
        "読み込めば続けられます。",
    ),
    "imported_one": (
        "“{title}” was imported as a conversation of its own.",
        "“{title}”已作为新对话导入。",
        "「{title}」を新しい会話として読み込みました。",
    ),
    "imported": (
        "{number} conversations were imported.",
        "已导入 {number} 个对话。",
        "{number} 件の会話を読み込みました。",
    ),
    "refused_nothing_to_export": (
        "There is nothing to export yet.",
        "还没有可以导出的内容。",
        "書き出すものがまだありません。",
    ),
    "refused_export_too_large": (
        "That would be more than {limit} bytes, which could not be imported again. Export conversations one by one.",
        "文件将超过 {limit} 字节，无法再次导入。请逐个导出对话。",
        "{limit} バイトを超え、読み込み直せません。会話を一つずつ書き出してください。",
    ),
    "refused_busy": (
        "Others are exporting just now. Try again in a moment.",
        "正在处理其他导出，请稍后再试。",
        "ほかの書き出しを処理しています。少し待ってからもう一度お試しください。",
    ),
    "import_file_of": ("{file}: {text}", "{file}：{text}", "{file}：{text}"),
    "import_empty": (
        "The file is empty; nothing was imported.",
        "文件是空的，没有导入任何内容。",
        "ファイルが空です。何も読み込みませんでした。",
    ),
    "import_too_large": (
        "The file is too large: {limit} bytes at most. Nothing was imported.",
        "文件太大：最多 {limit} 字节。没有导入任何内容。",
        "ファイルが大きすぎます。上限は {limit} バイトです。何も読み込みませんでした。",
    ),
    "import_not_text": (
        "The file is no text in UTF-8, so it was not imported. Choose a .json, .html or .zip exported here.",
        "文件不是 UTF-8 文本，未导入。请选择从这里导出的 .json、.html 或 .zip 文件。",
        "UTF-8 の文章ではないため、読み込みませんでした。ここで書き出した .json、.html、.zip を選んでください。",
    ),
    "import_not_json": (
        "The file is no whole JSON (line {line}); it may have been cut off. Nothing was imported.",
        "文件不是完整的 JSON（第 {line} 行），可能被截断。没有导入任何内容。",
        "完全な JSON ではありません（{line} 行目）。途中で切れているかもしれません。何も読み込みませんでした。",
    ),
    "import_too_deep": (
        "The file is nested too deeply; nothing was imported.",
        "文件嵌套太深，没有导入任何内容。",
        "入れ子が深すぎます。何も読み込みませんでした。",
    ),
    "import_no_data": (
        "This page holds no conversation as data, or was cut off. Choose an .html exported here.",
        "此网页不包含对话数据，或已被截断。请选择从这里导出的 .html 文件。",
        "このページには会話のデータがないか、途中で切れています。ここで書き出した .html を選んでください。",
    ),
    "import_not_ours": (
        "This is no conversation of Qwen chat. Choose a .json, .html or .zip exported here.",
        "这不是 Qwen 聊天的对话。请选择从这里导出的 .json、.html 或 .zip 文件。",
        "Qwen チャットの会話ではありません。ここで書き出した .json、.html、.zip を選んでください。",
    ),
    "import_newer": (
        "The file has format {version}, this program knows {known}. Update the program.",
        "文件格式为 {version}，本程序支持到 {known}。请更新程序。",
        "ファイルの形式は {version}、このプログラムが知るのは {known} までです。更新してください。",
    ),
    "import_too_many": (
        "The file holds more than {limit} entries; nothing was imported.",
        "文件超过 {limit} 个条目，没有导入任何内容。",
        "項目が {limit} 件を超えています。何も読み込みませんでした。",
    ),
    "import_field": (
        "“{name}” is {found}, which no conversation has. Nothing was imported.",
        "“{name}”为 {found}，不符合格式。没有导入任何内容。",
        "「{name}」が {found} で、形式に合いません。何も読み込みませんでした。",
    ),
    "import_message": (
        "In message {message} “{name}” is {found}, which no message has. Nothing was imported.",
        "第 {message} 条消息的“{name}”为 {found}，不符合格式。没有导入任何内容。",
        "{message} 番目のメッセージの「{name}」が {found} で、形式に合いません。何も読み込みませんでした。",
    ),
    "import_archive": (
        "The archive is damaged or locked with a password; nothing was imported.",
        "压缩包已损坏或有密码，没有导入任何内容。",
        "アーカイブが壊れているか、パスワードがかかっています。何も読み込みませんでした。",
    ),
    "import_archive_empty": (
        "The archive holds no .json file; nothing was imported.",
        "压缩包中没有 .json 文件，没有导入任何内容。",
        "アーカイブに .json ファイルがありません。何も読み込みませんでした。",
    ),
    "import_lost": (
        "The file did not arrive whole. Import it again.",
        "文件没有完整到达，请重新导入。",
        "ファイルが完全に届きませんでした。もう一度読み込んでください。",
    ),
}
