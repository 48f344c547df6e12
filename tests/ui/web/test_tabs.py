"""Open tabs: who looks at what, and that one follower keeps a tab up to date."""

from ui.web.tabs import Tabs


def test_a_conversation_is_watched_while_a_tab_shows_it() -> None:
    tabs = Tabs(60)
    tabs.enter("one", "owner", "conversation")
    tabs.enter("two", "owner", "conversation")
    assert tabs.num_showing("conversation") == 2
    assert tabs.is_shown_elsewhere("one", "conversation")
    tabs.leave("one")
    tabs.leave("one")
    assert tabs.num_showing("conversation") == 1
    assert not tabs.is_shown_elsewhere("two", "conversation")


def test_a_tab_that_is_closed_while_it_asks_shows_nothing_any_more() -> None:
    listening = {"one", "two"}
    tabs = Tabs(60, listening.__contains__)
    tabs.enter("one", "owner", "conversation")
    listening.remove("one")
    tabs.leave("one")
    tabs.enter("one", "owner", "conversation")
    assert not tabs.is_shown_elsewhere("two", "conversation")


def test_a_tab_that_turns_to_another_conversation_begins_at_its_end() -> None:
    tabs = Tabs(60)
    tabs.enter("one", "owner", "first")
    tabs.show_more("one")
    assert tabs.max_shown("one") == 120
    tabs.enter("one", "owner", "first")
    assert tabs.max_shown("one") == 120
    tabs.enter("one", "owner", "second")
    assert tabs.max_shown("one") == 60
    assert tabs.num_showing("first") == 0


def test_a_tab_shows_a_message_as_it_was_written_until_it_is_turned_again() -> None:
    tabs = Tabs(60)
    tabs.turn("nobody", "message")
    assert tabs.turned("nobody") == frozenset()
    tabs.enter("one", "owner", "conversation")
    tabs.turn("one", "message")
    tabs.turn("one", "other")
    assert tabs.turned("one") == {"message", "other"}
    tabs.turn("one", "message")
    assert tabs.turned("one") == {"other"}


def test_one_follower_at_a_time_and_news_make_it_go_on() -> None:
    tabs = Tabs(60)
    tabs.enter("one", "owner", "conversation")
    assert tabs.begin_following("one")
    assert not tabs.begin_following("one")
    assert not tabs.may_stop_following("one")
    assert tabs.may_stop_following("one")
    assert tabs.begin_following("one")


def test_a_follower_that_dies_makes_room_for_the_next() -> None:
    tabs = Tabs(60)
    tabs.enter("one", "owner", "conversation")
    assert tabs.begin_following("one")
    tabs.abandon_following("one")
    assert tabs.begin_following("one")


def test_a_tab_that_was_never_entered_is_not_followed() -> None:
    tabs = Tabs(60)
    assert not tabs.begin_following("invented")
    assert tabs.may_stop_following("invented")


def test_invented_tabs_cannot_grow_without_end() -> None:
    tabs = Tabs(60)
    for number in range(2_100):
        tabs.enter(str(number), "owner", "conversation")
    assert tabs.num_showing("conversation") == 2_000


def test_invented_tabs_displace_none_that_listens_and_show_nothing() -> None:
    tabs = Tabs(60, lambda tab: tab == "real")
    tabs.enter("real", "owner", "conversation")
    for number in range(2_100):
        tabs.enter(str(number), "eve", "conversation")
    assert tabs.is_here("owner")
    assert tabs.num_showing("conversation") == 1
