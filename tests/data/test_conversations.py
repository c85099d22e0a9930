import pytest

from r1_sharevl.data.conversations import Conversation, ends_with_answer, is_conversation, read_conversation
from r1_sharevl.data.row_error import RowError


def user(content):
    return {"role": "user", "content": content}


ANSWER = {"role": "assistant", "content": "4"}


@pytest.mark.parametrize(
    ("messages", "read"),
    [
        ([user("2 + 2?")], Conversation("2 + 2?", (), None)),
        ([{"role": "system", "content": "Think."}, user("2 + 2?"), ANSWER], Conversation("2 + 2?", (), "4")),
        (
            [{"from": "human", "value": "<image>2 + 2?"}, {"from": "gpt", "value": "4"}],
            Conversation("<image>2 + 2?", (), "4"),
        ),
        (
            [user([{"type": "image"}, {"type": "text", "text": "2 + 2?"}])],
            Conversation("<image>\n2 + 2?", (), None),
        ),
        (
            [user([{"type": "image", "image": "a.png", "text": None}, {"type": "text", "text": "q", "image": None}])],
            Conversation("<image>\nq", ("a.png",), None),
        ),
        (
            [user([{"type": "text", "text": "q"}, {"type": "image_url", "image_url": {"url": "data:x"}}])],
            Conversation("q\n<image>", ({"url": "data:x"},), None),
        ),
        (
            [user("q"), {"role": "assistant", "content": [{"type": "text", "text": "4"}]}],
            Conversation("q", (), "4"),
        ),
    ],
)
def test_conversations(messages, read):
    assert is_conversation(messages)
    assert read_conversation(messages, "here") == read
    assert ends_with_answer(messages) == (read.answer is not None)


@pytest.mark.parametrize("value", [None, "text", [], ["text"], [{}], [{"role": 1}], {"role": "user"}, [user("q"), 5]])
def test_what_is_no_conversation(value):
    assert not is_conversation(value)
    assert not ends_with_answer(value)


@pytest.mark.parametrize(
    "messages",
    [
        [ANSWER],
        [user("a"), ANSWER, user("b"), ANSWER],
        [user("a"), {"role": "tool", "content": "b"}],
        [user(None)],
        [user(5)],
        [user(["text"])],
        [user([{"type": "text"}])],
        [user([{"type": "video", "video": "a.mp4"}])],
        [user([{"type": ["image"]}])],
    ],
)
def test_unreadable_conversations(messages):
    with pytest.raises(RowError, match=r"^here ") as caught:
        read_conversation(messages, "here")
    assert caught.value.reason == "conversation not readable"
    assert len(str(caught.value).splitlines()) == 1
