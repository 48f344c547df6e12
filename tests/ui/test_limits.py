"""What one client and all together may ask, with a clock that the test moves."""

import contextlib

import pytest

from ui.limits import LOCAL, MovingWindow, TooMuch, Traffic, TrafficLimits


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_client_that_asks_too_often_waits_while_others_go_on() -> None:
    clock = Clock()
    traffic = Traffic(TrafficLimits(burst=3, per_s=1), clock)
    for _ in range(3):
        with traffic.request("a"):
            pass
    with pytest.raises(TooMuch) as refused, traffic.request("a"):
        pass
    assert (refused.value.status, refused.value.retry_after_s) == (429, 1)
    with traffic.request("b"):
        pass
    clock.now += 1.0
    with traffic.request("a"):
        pass


def test_invented_addresses_still_meet_the_limit_for_all() -> None:
    traffic = Traffic(TrafficLimits(total_burst=100, total_per_s=1), Clock())
    for number in range(1000):
        client = f"10.0.{number // 250}.{number % 250}"
        if number < 100:
            with traffic.request(client):
                pass
        else:
            with pytest.raises(TooMuch, match="503"), traffic.request(client):
                pass


def test_what_is_known_of_clients_does_not_grow_without_end() -> None:
    traffic = Traffic(TrafficLimits(total_burst=100_000), Clock())
    for number in range(10_000):
        with traffic.request(str(number)):
            pass
    assert len(traffic._buckets) <= 4096
    assert not traffic._at_once


def test_streams_are_counted_per_session_per_client_and_in_all_and_come_free_again() -> None:
    limits = TrafficLimits(streams_per_session=1, streams_per_client=2, streams_in_total=3)
    traffic = Traffic(limits, Clock())
    first = traffic.request("a", is_stream=True, session="s1")
    second = traffic.request("a", is_stream=True, session="s2")
    first.__enter__()
    second.__enter__()
    for client, session in (("a", "s1"), ("a", "s3")):
        with pytest.raises(TooMuch) as refused, traffic.request(client, is_stream=True, session=session):
            pass
        assert refused.value.status == 503
    with traffic.request("b", is_stream=True, session="s4"):
        with pytest.raises(TooMuch), traffic.request("c", is_stream=True, session="s5"):
            pass
        with traffic.request("c"):
            pass
    assert traffic.is_listening("s1")
    first.__exit__(None, None, None)
    assert not traffic.is_listening("s1")
    with traffic.request("a", is_stream=True, session="s3"):
        pass


def test_a_page_that_would_get_no_stream_is_refused_before_those_who_are_in_feel_it() -> None:
    traffic = Traffic(TrafficLimits(streams_per_client=4, clients=2), Clock())
    with contextlib.ExitStack() as streams:
        for session in "123":
            with traffic.request("a", is_page=True):
                pass
            streams.enter_context(traffic.request("a", is_stream=True, session=session))
        with pytest.raises(TooMuch), traffic.request("a", is_page=True):
            pass
        streams.enter_context(traffic.request("a", is_stream=True, session="1"))  # for an answer
        streams.enter_context(traffic.request("b", is_stream=True, session="4"))
        with traffic.request("b", is_page=True):
            pass
        with pytest.raises(TooMuch), traffic.request("c", is_page=True):
            pass


def test_streams_without_a_session_do_not_keep_others_from_the_page() -> None:
    traffic = Traffic(TrafficLimits(streams_per_session=1), Clock())
    with traffic.request("a", is_stream=True, session=""), traffic.request("b", is_page=True):
        pass


def test_no_more_clients_than_allowed_listen_and_this_machine_is_none_of_them() -> None:
    traffic = Traffic(TrafficLimits(clients=1), Clock())
    with traffic.request(LOCAL, is_stream=True, session="l"), traffic.request("a", is_stream=True, session="1"):
        with traffic.request("a", is_stream=True, session="2"):
            assert traffic.clients() == ["a"]
        with pytest.raises(TooMuch), traffic.request("b", is_stream=True, session="3"):
            pass


def test_requests_that_are_being_answered_are_limited() -> None:
    traffic = Traffic(TrafficLimits(at_once=1, total_at_once=2), Clock())
    with traffic.request("a"):
        with pytest.raises(TooMuch) as own, traffic.request("a"):
            pass
        with traffic.request("b"), pytest.raises(TooMuch) as everybodys, traffic.request("c"):
            pass
    assert (own.value.status, everybodys.value.status) == (429, 503)


def test_a_fault_while_answering_frees_the_place() -> None:
    traffic = Traffic(TrafficLimits(at_once=1), Clock())
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), traffic.request("a", is_stream=True, session="s"):
            raise ZeroDivisionError
    assert not traffic.is_listening("s")


def test_a_moving_window_says_how_long_to_wait() -> None:
    clock = Clock()
    window = MovingWindow(2, 60.0, clock)
    window.add("a")
    clock.now += 20
    window.add("a")
    assert window.wait_s("a") == 40
    assert window.wait_s("b") == 0
    clock.now += 40
    assert window.wait_s("a") == 0
    window.add("a")
    window.forget("a")
    assert window.wait_s("a") == 0
