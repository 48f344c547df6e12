"""What the login's own pages say and look like, in the page's three languages. They work without scripts."""

import time
from collections.abc import Sequence

from ui.web.fragments import Fragment, fill, join
from ui.web.login.sessions import Session, Sessions
from ui.web.strings import LANGUAGES, Language

_TABLE: dict[str, tuple[str, str, str]] = {
    "title": ("Qwen chat", "Qwen 聊天", "Qwen チャット"),
    "account": ("Name", "用户名", "ユーザー名"),
    "call_me": ("Your name, for the host", "你的名字（主持人可见）", "お名前（ホストに表示されます）"),
    "password": ("Password", "密码", "パスワード"),
    "log_in": ("Log in", "登录", "ログイン"),
    "log_out": ("Log out", "退出登录", "ログアウト"),
    "guests": ("Guests", "访客", "ゲスト"),
    "host": ("Host", "主持人", "ホスト"),
    "invited": (
        "You need the password of the person who runs this page.",
        "需要此页面运行者提供的密码。",
        "このページを動かしている人のパスワードが必要です。",
    ),
    "wrong": ("The name or the password is wrong.", "用户名或密码错误。", "ユーザー名またはパスワードが違います。"),
    "too_often": (
        "Too many tries. Wait a minute, then try again.",
        "尝试次数过多，请一分钟后再试。",
        "試行回数が多すぎます。1 分待ってからもう一度どうぞ。",
    ),
    "full": (
        "As many guests are here as may be. Try again later.",
        "访客已满，请稍后再试。",
        "満員です。しばらくしてからもう一度どうぞ。",
    ),
    "ended": ("The host has ended sharing.", "主持人已结束分享。", "ホストが共有を終了しました。"),
    "log_in_first": ("Log in first.", "请先登录。", "先にログインしてください。"),
    "not_host": ("Only the host may do this.", "只有主持人可以这样做。", "ホストだけができます。"),
    "who_is_on": ("Who is here", "当前在线", "いま来ている人"),
    "nobody": ("No guest is here.", "目前没有访客。", "ゲストはいません。"),
    "since": ("since {time}", "{time} 起", "{time} から"),
    "end_all": (
        "End sharing: send all guests away and take the link down",
        "结束分享：请所有访客离开并关闭链接",
        "共有を終了：ゲスト全員を退出させ、リンクを閉じる",
    ),
    "back": ("Back to the chat", "返回聊天", "チャットに戻る"),
    "without_login": ("without a login", "未登录", "ログインなし"),
}


def login_page(language: Language, reason: str = "", *, asks_account: bool) -> str:
    """The page that asks for name and password; `reason` says why the last try failed."""
    is_over = reason == "ended"
    form = fill(
        "login_form",
        name_label=_say(language, "account" if asks_account else "call_me"),
        password_label=_say(language, "password"),
        log_in=_say(language, "log_in"),
    )
    invited = fill("login_note", kind="quiet", text=_say(language, "invited"))
    said = fill("login_note", kind="wrong", text=_say(language, reason)) if reason else Fragment("")
    return _page(language, join([said] if is_over else [invited, said, form]))


def host_page(language: Language, sessions: Sessions, visitors: Sequence[str]) -> str:
    """Who is on, and the button that ends it."""
    rows = [_row(language, one.name, one.address, one.began) for one in sessions.who_is_on() if not one.is_host]
    rows += [_row(language, _say(language, "without_login"), address, None) for address in visitors]
    end = fill("host_end", label=_say(language, "end_all"))
    if sessions.is_closed:
        end = fill("login_note", kind="quiet", text=_say(language, "ended"))
    body = fill(
        "host_page",
        heading=_say(language, "who_is_on"),
        rows=join(rows) if rows else fill("login_note", kind="quiet", text=_say(language, "nobody")),
        end=end,
        back=_say(language, "back"),
    )
    return _page(language, body, refresh=fill("host_refresh"))


def refusal_text(language: Language, reason: str) -> str:
    """Why something is not answered, as a sentence."""
    return _say(language, reason)


def session_facts(language: Language, session: Session, num_guests: int) -> dict[str, str]:
    """What the chat page shows in its top line; the text of `guests` is empty for everybody but the host."""
    guests = f"{_say(language, 'guests')} {num_guests}" if session.is_host else ""
    name = _say(language, "host") if session.is_host else session.name
    return {"name": name, "guests": guests, "log_out": _say(language, "log_out")}


def _row(language: Language, name: str, address: str, began: float | None) -> Fragment:
    since = "" if began is None else _say(language, "since", time=time.strftime("%H:%M", time.localtime(began)))
    return fill("host_row", name=name, address=address, since=since)


def _page(language: Language, body: Fragment, refresh: Fragment | None = None) -> str:
    title = _say(language, "title")
    return fill("login_page", language=language, title=title, body=body, refresh=refresh or Fragment(""))


def _say(language: Language, key: str, **values: str) -> str:
    return _TABLE[key][LANGUAGES.index(language)].format(**values)
