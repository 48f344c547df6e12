"""What to do about an error of the model, in the page's languages.

`model_loader` says in English what happened, with its names and numbers. For other readers a sentence of theirs stands
before it: one for each class of error, because each class has its own remedy.
"""

from typing import Protocol

from ui.web.strings import Language, say

_REMEDIES: dict[str, tuple[str, str]] = {
    "CheckpointNotFound": (
        "找不到这个模型。请检查名称或文件夹。",
        "モデルが見つかりません。名前かフォルダーを確かめてください。",
    ),
    "HubUnreachable": (
        "无法连接模型下载站。请检查网络，或改用另一个下载站。",
        "配布元に接続できません。ネットワークを確かめるか、別の配布元を選んでください。",
    ),
    "NotEnoughDisk": (
        "磁盘空间不足。请腾出空间，或换一个缓存文件夹。",
        "ディスクの空きが足りません。空きを作るか、保存先を変えてください。",
    ),
    "CheckpointUnsupported": (
        "本程序不支持这种模型。请换一个模型。",
        "この種類のモデルには対応していません。別のモデルを選んでください。",
    ),
    "CheckpointDamaged": (
        "模型文件缺失或损坏。请重新下载。",
        "モデルのファイルが足りないか壊れています。取得し直してください。",
    ),
    "NotEnoughMemory": (
        "内存不足，放不下这个模型。请选择下面列出的办法。",
        "メモリーが足りません。下に挙げた方法から選んでください。",
    ),
    "InvalidSetting": (
        "有一项设置超出范围。请改为下面所示范围内的值。",
        "設定の値が範囲外です。下に示す範囲の値にしてください。",
    ),
    "ContextLengthExceeded": (
        "对话超出了模型的窗口。请缩短问题，或减少回答的长度上限。",
        "会話がモデルのコンテキスト長に収まりません。質問を短くするか、回答の上限を減らしてください。",
    ),
    "EngineStopped": (
        "模型已停止工作。请重新启动程序。",
        "モデルが止まりました。プログラムを起動し直してください。",
    ),
    "GenerationFailed": (
        "这次回答失败了，其他回答不受影响。请再问一次。",
        "この回答は失敗しました。ほかの回答に影響はありません。もう一度聞いてください。",
    ),
    "ServerUnreachable": (
        "无法连接模型服务器。请启动它，或更正地址。",
        "モデルのサーバーに接続できません。起動するか、アドレスを直してください。",
    ),
    "ServerRefusesKey": (
        "模型服务器拒绝了密钥。请更换正确的密钥。",
        "モデルのサーバーが鍵を受け付けません。正しい鍵にしてください。",
    ),
    "ServerBusy": (
        "模型服务器正忙。请稍后再问。",
        "モデルのサーバーが混み合っています。しばらくして聞き直してください。",
    ),
    "ServerIncompatible": (
        "那个地址上的服务器不提供所需的接口。请换一个地址或服务器。",
        "そのサーバーは必要な API を備えていません。別のアドレスかサーバーにしてください。",
    ),
}


class Failed(Protocol):
    """Whatever may have failed: a message, a continuation, a run of an answer again."""

    @property
    def error(self) -> str:
        """The message of an error of `model_loader`; "" if the fault is ours."""

    @property
    def error_class(self) -> str:
        """Its class."""

    @property
    def fault_id(self) -> str | None:
        """What names our fault in the log."""


def failure_text(language: Language, failed: Failed) -> str:
    """Why something failed, for its reader."""
    if failed.error:
        return error_text(language, failed.error_class, failed.error)
    return say(language, "fault", fault_id=failed.fault_id or "?")


def error_text(language: Language, error_class: str, error: str) -> str:
    """An error as it is shown: in Chinese and Japanese the remedy first, then what happened.

    Args:
        language: of the page.
        error_class: name of a class of `model_loader.errors`; any other name has no remedy.
        error: its message.
    """
    if language == "en" or error_class not in _REMEDIES:
        return error
    return f"{_REMEDIES[error_class][0 if language == 'zh' else 1]}\n{error}"
