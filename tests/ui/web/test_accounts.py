"""Names and passwords as the command line gives them, and the options that go with them."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from model_loader.errors import InvalidSetting
from ui.web.login.accounts import Accounts, read_accounts
from ui.web.login.options import SharingOptions
from ui.web.login.sessions import owner_of
from ui.web.options import PageOptions


def written(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    file = folder / "accounts"
    file.write_bytes(content)
    file.chmod(mode)
    return file


def test_an_entry_is_cut_at_its_first_colon() -> None:
    accounts = read_accounts(["ann:a:b:c", "李:密码"], None)
    assert accounts.opens("ann", "a:b:c")
    assert accounts.opens("李", "密码")
    assert not accounts.opens("ann", "a")
    assert not accounts.opens("nobody", "a:b:c")
    assert not accounts.opens("", "")
    assert accounts.shared_password is None


@pytest.mark.parametrize("entry", ["", ":", "a", "a:", ":b", " :b", "a:  ", "a\nb:c", "x" * 65 + ":p"])
def test_an_entry_that_is_no_account_is_refused_and_not_quoted(entry: str) -> None:
    with pytest.raises(InvalidSetting, match="--auth number 1"):
        read_accounts([entry], None)


def test_a_message_never_quotes_a_password() -> None:
    with pytest.raises(InvalidSetting) as refused:
        read_accounts(["hunter2"], None)
    assert "hunter2" not in str(refused.value)


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="a second time"):
        read_accounts(["a:1", "a:2"], None)


def test_a_file_has_an_account_in_each_line(tmp_path: Path) -> None:
    file = written(tmp_path, "\ufeff# people\n\nann:tulip\r\nbob:rose\n".encode())
    accounts = read_accounts(["host:x"], file)
    assert [accounts.opens(*pair) for pair in (("ann", "tulip"), ("bob", "rose"), ("host", "x"))] == [True] * 3


@pytest.mark.skipif(os.name != "posix", reason="permissions")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_file_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(InvalidSetting, match="chmod 600"):
        read_accounts([], written(tmp_path, b"a:b", mode))


@pytest.mark.parametrize("content", [b"", b"# nobody\n", b"a\n", b"\xff\xfe:x", b"a:b\n" * 300_000])
def test_a_file_without_accounts_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InvalidSetting, match="--auth-file"):
        read_accounts([], written(tmp_path, content))


def test_a_missing_file_a_folder_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, stat.S_IRUSR | stat.S_IWUSR)
    for path in (tmp_path / "none", tmp_path, pipe):
        with pytest.raises(InvalidSetting, match="--auth-file"):
            read_accounts([], path)


def test_without_accounts_one_password_is_made_that_nobody_guesses() -> None:
    first, second = Accounts({}), Accounts({})
    assert first.shared_password is not None
    assert len(first.shared_password.replace("-", "")) == 20
    assert first.shared_password != second.shared_password
    assert first.opens("anybody", first.shared_password)
    assert not first.opens("anybody", "")


def test_an_accounts_owner_is_always_the_same_and_needs_the_key() -> None:
    assert owner_of("ann", b"k") == owner_of("ann", b"k")
    assert len({owner_of("ann", b"k"), owner_of("bob", b"k"), owner_of("ann", b"l")}) == 3
    assert len(owner_of("ann", b"k")) == 32


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"is_public": True, "auth": ("a:b",)}, "--public"),
        ({"login_hours": 0.0}, "--login-hours"),
        ({"login_hours": float("nan")}, "--login-hours"),
        ({"max_guests": 0}, "--max-guests"),
        ({"max_guests": 201}, "--max-guests"),
        ({"guest_tokens": -1}, "--guest-tokens"),
        ({"trusted_proxy": "http://x"}, "--trusted-proxy"),
        ({"trusted_proxy": "*"}, "--trusted-proxy"),
        ({"trusted_proxy": ""}, "--trusted-proxy"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidSetting, match=complaint):
        SharingOptions(**options)


@pytest.mark.parametrize(
    ("page", "sharing", "needs_login"),
    [
        ({}, {}, False),
        ({}, {"auth": ("a:b",)}, True),
        ({}, {"link": True}, True),
        ({}, {"trusted_proxy": "chat.example"}, True),
        ({"server_name": "0.0.0.0"}, {}, True),
        ({"server_name": "192.168.1.9"}, {}, True),
        ({"server_name": "0.0.0.0"}, {"is_public": True}, False),
        ({"server_name": "[::1]"}, {}, False),
    ],
)
def test_a_page_that_others_can_reach_needs_a_login_unless_it_is_public(
    page: dict[str, Any], sharing: dict[str, Any], needs_login: bool
) -> None:
    options = PageOptions(**page, sharing=SharingOptions(**sharing))
    assert options.needs_login is needs_login
    assert options.may_switch_model is not options.is_shared
