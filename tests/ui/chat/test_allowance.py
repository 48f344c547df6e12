"""How much guests may use: an hour's tokens each and together, and answers at once."""

import pytest

from ui.chat.allowance import ANSWERS_AT_ONCE, Allowance
from ui.chat.refusal import Refused


class Clock:
    """A clock that stands still until it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_guest_who_has_used_up_an_hours_tokens_waits_for_them_to_pass() -> None:
    clock = Clock()
    allowance = Allowance(100, 10, clock)
    allowance.spend("ann", 60)
    clock.now = 1800
    allowance.check("ann")
    allowance.spend("ann", 60)
    with pytest.raises(Refused, match="tokens_spent"):
        allowance.check("ann")
    allowance.check("bob")
    allowance.check(None)
    clock.now = 3601
    allowance.check("ann")


def test_coming_back_under_another_name_does_not_help_beyond_what_all_may_use() -> None:
    allowance = Allowance(100, 3, Clock())
    for number in range(3):
        allowance.check(f"guest {number}")
        allowance.spend(f"guest {number}", 100)
    with pytest.raises(Refused, match="tokens_spent"):
        allowance.check("guest 3")


def test_only_so_many_answers_are_written_for_a_guest_at_once() -> None:
    allowance = Allowance()
    for owner in ("a1", "a2", "a3"):
        allowance.know(owner, "ann")
    with pytest.raises(Refused, match="enough_at_once"):
        allowance.check("ann", ["a1", "a2"][:ANSWERS_AT_ONCE])
    allowance.check("ann", ["a1", "bob's"])
    allowance.know("a1", None)
    allowance.check("ann", ["a1", "a2"])


def test_without_a_limit_any_number_of_tokens_is_fine() -> None:
    allowance = Allowance(None)
    allowance.spend("ann", 10**9)
    allowance.check("ann")
