"""Signals are noted, wake what waits, and end a program that hangs."""

import signal

import pytest

from ui.terminal.signals import Signals


def test_signals_are_noted_and_the_handlers_before_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        assert not signals.is_interrupted
        signal.raise_signal(signal.SIGINT)
        assert signals.is_interrupted
        assert not signals.must_end
        signals.forget_interrupt()
        assert not signals.is_interrupted
        signal.raise_signal(signal.SIGTERM)
        assert signals.must_end
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_third_interrupt_in_a_row_ends_what_hangs() -> None:
    with Signals() as signals:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        signals.forget_interrupt()
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_waits_is_woken_with_the_signals_number() -> None:
    woken: list[int] = []
    with Signals() as signals:
        with signals.waking(woken.append):
            for _ in range(5):
                signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert woken == [signal.SIGINT] * 5


def test_what_came_before_anything_waited_wakes_it_once() -> None:
    def end(number: int) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else EOFError

    with Signals() as signals:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), signals.waking(end):
            pytest.fail("it waits")
        with signals.waking(end):
            assert not signals.is_interrupted
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(EOFError), signals.waking(end):
            pytest.fail("it waits")
