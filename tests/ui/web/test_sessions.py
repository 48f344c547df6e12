"""What a page remembers of the tabs that came by: little, the open ones' last, and nothing of what broke off."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.benchmarks.page_tab import Tab, open_client
from tests.scripted_model import Script, many_words
from tests.ui.web.served_page import Served
from tests.ui.web.test_faults import numbers_of, visit
from ui.web.sessions import OpenSessions

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
CAPACITY = 5


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    served = Served(Script())
    yield served
    served.close()


@pytest.fixture
def sessions(served: Served) -> OpenSessions:
    served.begin_again(Script(answer=many_words(2000), tokens_per_s=100))
    sessions = served.page.blocks.app.state_holder
    assert isinstance(sessions, OpenSessions)
    sessions.capacity = CAPACITY
    return sessions


def test_a_tab_whose_stream_breaks_again_and_again_can_still_follow(served: Served, sessions: OpenSessions) -> None:
    async def talk(tab: Tab) -> str:
        await tab.ask("Go on")
        for _ in range(10):
            following = tab.follow()
            text = (await anext(following)).text
            await following.aclose()
            await asyncio.sleep(0.4)  # until the server has noticed
        await tab.stop()
        return text

    assert "word0" in visit(served, talk)


def test_an_open_tab_is_remembered_however_many_come_after_it(served: Served, sessions: OpenSessions) -> None:
    queue = served.page.blocks._queue

    async def crowd() -> list[str]:
        async with open_client(served.page.url) as client:
            stays = Tab(client, numbers_of(served))
            await stays.open()
            for _ in range(3 * CAPACITY):
                passer_by = Tab(client, numbers_of(served))
                await passer_by.open()
                await passer_by.answer("And now?")
                await passer_by.close()
            seen = [update.text for update in await stays.answer("Am I still here?")]
            await stays.close()
            return seen

    served.model.script = Script(answer="one two", tokens_per_s=500)
    assert "one two" in asyncio.run(crowd())[-1]
    assert len(sessions.session_data) == CAPACITY
    assert len(queue.pending_messages_per_session) <= CAPACITY
    assert len(queue.pending_event_ids_session) <= CAPACITY


def test_of_tabs_that_all_listen_the_one_that_was_used_least_goes(served: Served) -> None:
    sessions = OpenSessions(served.page.blocks, lambda session: True, capacity=2)
    try:
        for name in ("a", "b", "a", "c"):
            assert sessions[name] is not None
        assert list(sessions.session_data) == ["a", "c"]
    finally:
        served.page.blocks.app.state_holder.set_blocks(served.page.blocks)
