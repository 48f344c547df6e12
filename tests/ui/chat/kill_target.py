"""A program that saves conversations as fast as it can and says what is on the disk, to be killed at any moment.

    python -m tests.ui.chat.kill_target FILE

Each line it prints is a message that was saved before: its id, its conversation's id, its length.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from ui.chat.conversation import Conversation
from ui.chat.conversations import Conversations
from ui.chat.database import Database

OWNER = "c" * 32


@dataclass(frozen=True)
class Acknowledged:
    """What the program said before it was killed: of each message its id, its conversation's id and its length."""

    questions: tuple[tuple[str, str, int], ...]


def read_acknowledged(said: bytes) -> Acknowledged:
    """Whole lines only: the last one may have been cut."""
    lines = [line.split() for line in said.decode().split("\n")[:-1]]
    return Acknowledged(
        tuple((message_id, conversation_id, int(length)) for message_id, conversation_id, length in lines)
    )


def main(place: Path) -> None:
    """Writes until it is killed."""
    store = Conversations(lambda _id: False, database=Database(place))
    while True:
        conversation = store.create(OWNER)
        for number in range(3):
            question = conversation.add_user(f"Question {number} " + "word " * 40)
            acknowledge(store, conversation, question.id)
            answer = conversation.start_answer(question.id)
            for _ in range(6):
                conversation.grow(answer.id, "and so on, " * 30)
                acknowledge(store, conversation, answer.id)
            conversation.amend(answer.id, state="complete")
            acknowledge(store, conversation, answer.id)


def acknowledge(store: Conversations, conversation: Conversation, message_id: str) -> None:
    """Saves, then says so."""
    message = conversation.find(message_id)
    assert message is not None
    assert store.save(conversation)
    sys.stdout.write(f"{message_id} {conversation.id} {len(message.text)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
