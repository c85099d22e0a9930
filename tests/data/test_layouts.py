import io
import pickle

import PIL.Image
import pytest

from r1_sharevl.data.layouts import ROLES, guess_layout
from r1_sharevl.errors import UserError


def picture(path=None):
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (4, 4)).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": path}


CHAT = [{"role": "user", "content": "<image>1 + 1?"}]

# What the data sets are like: name, one record, and the layout to be found.
DATA_SETS = [
    ("prepared set", dict.fromkeys(("id", "problem", "images", "answer", "variants", "source", "level"), None),
     "id=id problem=problem images=images answer=answer variants=variants source=source"),
    ("EasyR1, Geometry3K", {"images": [picture()], "problem": "<image>Find x.", "answer": "3"},
     "problem=problem images=images answer=answer"),
    ("R1-ShareVL-52K", {"images": [picture()], "problem": "p", "answer": "3", "new_questions": "['a', 'b']"},
     "problem=problem images=images answer=answer variants=new_questions"),
    ("GEOQA-8K", {"image": picture(), "problem": "p", "solution": "<answer> 145° </answer>"},
     "problem=problem images=image answer=solution"),
    ("MMK12", {"id": "1", "question": "<image>p", "answer": "A", "subject": "math", "image": picture()},
     "id=id problem=question images=image answer=answer"),
    ("ViRL39K", {"question": "p", "answer": "\\boxed{A}", "PassRate_32BTrained": 0.5, "PassRate_7BUntrained": None,
                 "category": "c", "source": "s", "qid": "q-1", "image": ["images/q-1.png"]},
     "id=qid problem=question images=image answer=answer source=source"),
    ("MathVision", {"id": "1", "question": "<image1>", "options": ["A", "B"], "image": "images/1.jpg",
                    "decoded_image": picture(), "answer": "A", "solution": None, "level": 1, "subject": "s"},
     "id=id problem=question images=decoded_image answer=answer options=options"),
    ("MathVista", {"pid": "1", "question": "q", "image": "images/1.jpg", "decoded_image": picture(), "choices": None,
                   "unit": None, "precision": 1.0, "answer": "2", "query": "Hint: q",
                   "metadata": {"source": "s"}},
     "id=pid problem=question images=decoded_image answer=answer options=choices"),
    ("VLMEvalKit", {"index": "1", "image": "iVBORw0KGgo=", "question": "q", "hint": None, "A": "a", "B": "b", "C": None,
                    "answer": "A", "category": "c", "image_path": "1.png", "split": "dev"},
     "id=index problem=question images=image answer=answer options=A,B,C hint=hint"),
    ("VLMEvalKit by path", {"index": "1", "image": None, "question": "q", "answer": "A", "image_path": "['1.png']"},
     "id=index problem=question images=image_path answer=answer"),
    ("MMMU", {"id": "v_1", "question": "<image 1>", "options": "['a', 'b']", "explanation": "", "answer": "A",
              **{f"image_{n}": picture() if n == 1 else None for n in range(1, 8)}},
     "id=id problem=question images=image_1,image_2,image_3,image_4,image_5,image_6,image_7 answer=answer "
     "options=options"),
    ("ScienceQA", {"image": picture(), "question": "q", "choices": ["a", "b"], "answer": 1, "hint": "h",
                   "solution": "s"},
     "problem=question images=image answer=answer options=choices hint=hint"),
    ("verl", {"data_source": "geo", "prompt": CHAT, "images": [picture()], "ability": "math",
              "reward_model": {"style": "rule", "ground_truth": "3"}},
     "problem=prompt images=images answer=reward_model source=data_source"),
    ("TRL", {"prompt": CHAT, "image": picture(), "solution": "3"}, "problem=prompt images=image answer=solution"),
    ("ms-swift", {"messages": [*CHAT, {"role": "assistant", "content": "2"}], "images": ["a.jpg"]},
     "problem=messages images=images answer=messages"),
    ("ShareGPT", {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "image": "a.jpg"},
     "problem=conversations images=image answer=conversations"),
    ("image folder", {"file_name": "a.png", "text": "q", "label": "2"}, "problem=text images=file_name answer=label"),
    ("pandas names", {"Question": "q", "Final Answer": "2", "Image Path": "a.png", "ID": 3},
     "id=ID problem=Question images=Image Path answer=Final Answer"),
    ("lettered columns", {"question": "q", "choice_a": "x", "choice_b": "y", "choice_d": "z", "answer": "A"},
     "problem=question answer=answer options=choice_a,choice_b"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "found"), [case[1:] for case in DATA_SETS], ids=[case[0] for case in DATA_SETS])
def test_data_sets_that_people_have(record, found):
    layout = guess_layout(list(record), [record], {}, "a.parquet")
    assert sorted(layout.describe().split(" ")) == sorted(found.split(" "))
    assert pickle.loads(pickle.dumps(layout)) == layout  # noqa: S301


def guess(record, mapping=None, more=(), **options):
    return guess_layout(list(record), [record, *more], mapping or {}, "a.jsonl", **options).columns


# Values decide where names do not.


def test_filled_columns_are_preferred():
    assert guess({"question": "q", "prompt": "p", "answer": "", "solution": "3"})["answer"] == ("solution",)
    assert guess({"problem": None, "question": "q", "answer": "3"})["problem"] == ("question",)


def test_a_source_column_that_is_no_text_is_none():
    found = guess({"problem": "q", "answer": "3", "source": {"a": 1}, "dataset": "d", "id": [1], "qid": 7})
    assert (found["source"], found["id"]) == (("dataset",), ("qid",))


def test_letters_are_options_only_from_a_and_b_on():
    question = {"question": "q", "answer": "3"}
    assert guess({**question, "A": "x", "B": "y", "D": "z"})["options"] == ("A", "B")
    assert "options" not in guess({**question, "B": "x", "C": "y"})
    assert "options" not in guess({**question, "a": "x", "b": "y"})


def test_a_list_of_options_wins_over_letters_where_it_is_filled():
    letters = {"question": "q", "answer": "3", "A": "x", "B": "y"}
    assert guess({**letters, "choices": ["x", "y"]})["options"] == ("choices",)
    assert guess({**letters, "choices": None})["options"] == ("A", "B")


def test_a_hint_without_options_is_left_alone():
    """In other data sets it is a hint of how to solve the question."""
    assert "hint" not in guess({"question": "q", "answer": "3", "hint": "h"})


def test_image_and_images_in_different_rows_are_both_used():
    question = {"problem": "q", "answer": "3"}
    rows = [{**question, "image": "a.png", "images": None}, {**question, "image": None, "images": ["a.png"]}]
    assert guess(rows[0], more=rows[1:])["images"] == ("image", "images")
    both = {**question, "image": "a.png", "images": ["a.png"]}
    assert guess(both, more=rows)["images"] == ("image", "images")
    assert guess(both)["images"] == ("images",)
    assert guess(both, more=[both, *rows])["images"] == ("image", "images")
    assert guess(both, more=[both, both, *rows])["images"] == ("images",)


def test_a_picture_column_of_another_name_is_found():
    question = {"problem": "q", "answer": "3"}
    assert guess({**question, "diagram": picture()})["images"] == ("diagram",)
    assert guess({**question, "diagram": [picture()["bytes"]]})["images"] == ("diagram",)
    assert "images" not in guess({**question, "raw": b"x", "thing": {"bytes": b"x", "path": "y"}})


def test_several_picture_columns_of_other_names_are_for_the_user_to_decide():
    record = {"problem": "q", "answer": "3", "left": picture(), "right": picture()}
    with pytest.raises(UserError, match=r"^a.jsonl: the columns left, right hold pictures: .*--map images=COLUMN"):
        guess(record)
    assert guess(record, {"images": "right,left"})["images"] == ("right", "left")
    assert "images" not in guess(record, {"images": ""})


def test_numbered_columns_are_in_the_order_of_their_numbers():
    record = {"problem": "q", "answer": "3", **{f"image_{n}": "a.png" for n in (10, 2, 1)}}
    assert guess(record)["images"] == ("image_1", "image_2", "image_10")


# What the user says.


def test_the_user_has_the_last_word():
    record = {"problem": "old", "question": "q", "answer": "3", "gold": "4", "source": "s", "a,b": "x"}
    found = guess(record, {"problem": "question", "answer": "gold", "source": "", "variants": "a,b"})
    assert found == {"problem": ("question",), "answer": ("gold",), "variants": ("a,b",)}


def test_a_column_has_one_role():
    assert "id" not in guess({"problem": "q", "answer": "3", "id": "x"}, {"source": "id"})
    found = guess({"question": "q", "answer": 1, "choices": ["x", "y"], "solution": "s"}, {"answer_index": "answer"})
    assert found == {"problem": ("question",), "options": ("choices",), "answer_index": ("answer",)}


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"question": "problem"}, r"--map question=problem: there is no role 'question': choose one of id, problem"),
        ({"problem": "text"}, r"a.jsonl: --map problem=text: no column 'text' \(found: answer, problem\)"),
        ({"problem": "problem,answer"}, r"no column 'problem,answer'"),
        ({"images": "problem,picture"}, r"no column 'picture'"),
        ({"answer": ""}, r"a.jsonl: no column for 'answer' \(found: answer, problem\): name it with --map answer=COL"),
    ],
)
def test_mistakes_of_the_user(mapping, says):
    with pytest.raises(UserError, match=says) as caught:
        guess({"problem": "q", "answer": "3"}, mapping)
    assert len(str(caught.value).splitlines()) == 1


def test_missing_columns_name_those_found():
    with pytest.raises(
        UserError, match=r"^a.jsonl: no column for 'problem' \(found: answer, 'x\\n'\): name it with --map"
    ):
        guess({"x\n": "q", "answer": "3"})
    with pytest.raises(UserError, match=r"^a.jsonl: no column for 'answer' \(found: problem\)"):
        guess({"problem": "q"})
    with pytest.raises(UserError, match=r"no column for 'answer'"):
        guess({"messages": CHAT})
    assert guess({"problem": "q"}, answer_needed=False) == {"problem": ("problem",)}
    with pytest.raises(UserError) as caught:
        guess({f"column {n}": "q" for n in range(10_000)})
    assert len(str(caught.value)) < 2000


def test_nothing_readable_has_an_empty_layout():
    assert guess_layout([], [], {}, "a.jsonl").columns == {}
    assert guess_layout([], [], {"problem": "question"}, "a.jsonl").columns == {}


def test_meta_columns_are_those_without_a_role():
    record = {"question": "q", "problem": "old", "answer": "3", "level": 1, "A": "x", "B": "y", "image": "a.png"}
    layout = guess_layout(list(record), [record], {"problem": "question", "source": ""}, "a.jsonl")
    assert layout.meta_columns([*record, "source", "new"]) == ["level", "new"]


def test_every_role_can_be_said():
    columns = [f"column {role}" for role in ROLES]
    layout = guess_layout(columns, [], {role: f"column {role}" for role in ROLES}, "a.jsonl")
    assert layout.columns == {role: (f"column {role}",) for role in ROLES}


@pytest.mark.parametrize(
    ("rows", "role"),
    [
        ([(["a", "b"], 0), (["a", "b"], 1)], "answer_index"),
        ([(["a", "b"], "0"), (["a", "b"], "1")], "answer_index"),
        ([(["a", "b"], 1), (["a", "b"], 2)], "answer"),  # counts from 1, or not at all
        ([(["0", "1"], "0"), (["1", "0"], "1")], "answer"),  # the options' own texts
        ([(["a", "b"], 0), (["a", "b"], "b")], "answer"),
        ([(["a", "b"], True), (["a", "b"], 0)], "answer"),
        ([(None, "0")], "answer"),
    ],
)
def test_numbers_that_count_options(rows, role):
    sample = [{"question": "Which?", "choices": choices, "answer": answer} for choices, answer in rows]
    layout = guess_layout(["question", "choices", "answer"], sample, {}, "here")
    assert layout.columns[role] == ("answer",)
    assert len({"answer", "answer_index"} & layout.columns.keys()) == 1
    said = guess_layout(["question", "choices", "answer"], sample, {"answer": "answer"}, "here")
    assert said.columns["answer"] == ("answer",)
