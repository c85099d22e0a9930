"""What each setting of `prepare` does to a set, from raw file to finished folder."""

import ast
import base64
import io
import json

import datasets
import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wordings.llm_server import LLMServer

from r1_sharevl.data.schema import load_prepared
from r1_sharevl.errors import UserError
from r1_sharevl.prep.pipeline import DRY_RUN_ROWS, dry_run, prepare
from r1_sharevl.prep.selection.pass_rate import parse_pass_rate
from r1_sharevl.prep.settings import Difficulty, PrepSettings
from r1_sharevl.prep.wordings.settings import ApiSettings
from r1_sharevl.question_space import QuestionSpace


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def picture(seed=0, size=(120, 120)):
    """A figure: a triangle and a circle somewhere on white."""
    rng = np.random.default_rng(seed)
    image = PIL.Image.new("RGB", (240, 240), "white")
    draw = PIL.ImageDraw.Draw(image)
    points = [tuple(int(value) for value in rng.integers(20, 220, 2)) for _ in range(3)]
    draw.polygon(points, outline="black", width=4)
    x, y = (int(value) for value in rng.integers(30, 160, 2))
    draw.ellipse((x, y, x + 50, y + 50), outline="blue", width=4)
    return image.resize(size, PIL.Image.Resampling.LANCZOS)


def embedded(image, fmt="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return {"bytes": base64.b64encode(buffer.getvalue()).decode()}


def question(number, **more):
    return {"problem": f"What is {number} + 1?", "answer": str(number + 1), **more}


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def rejected_of(folder):
    return [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]


def test_columns_by_their_usual_names_and_by_mapping(tmp_path):
    records = [
        {"query": f"{n} + {n}?", "gt": str(2 * n), "choices": ["1", str(2 * n)], "pic": embedded(picture(n))}
        for n in range(1, 4)
    ]
    file = write_lines(tmp_path / "a.jsonl", records)
    with pytest.raises(UserError, match=r"a: no column for 'answer' \(found: choices, gt, pic, query\): name it with"):
        prepare(file, tmp_path / "out")
    mapping = {"answer": "gt", "images": "pic"}
    summary = prepare(file, tmp_path / "out", PrepSettings(mapping=mapping, validation_share=0))
    assert summary.layouts == {"a": "problem=query images=pic answer=gt options=choices"}
    rows = load_prepared(tmp_path / "out")
    assert rows["problem"][0] == "1 + 1?\nA. 1\nB. 2"
    assert rows["answer"][:] == ["2", "4", "6"]
    assert [len(images) for images in rows["images"]] == [1, 1, 1]
    assert rows.column_names == ["id", "problem", "images", "answer", "variants", "source"]


def test_a_mapping_concerns_the_inputs_that_have_the_column(tmp_path):
    one = write_lines(tmp_path / "a.jsonl", [question(1)])
    two = write_lines(tmp_path / "b.jsonl", [{"frage": "What is 2 + 1?", "answer": "3"}])
    summary = prepare([one, two], tmp_path / "out", PrepSettings(mapping={"problem": "frage"}, validation_share=0))
    assert summary.layouts == {"a": "problem=problem answer=answer", "b": "problem=frage answer=answer"}
    with pytest.raises(UserError, match="no column 'nowhere'"):
        prepare([one, two], tmp_path / "out2", PrepSettings(mapping={"problem": "nowhere"}))


def test_weights_are_of_the_kept_rows(tmp_path):
    bad = [{"problem": "x", "answer": ""}] * 20
    one = write_lines(tmp_path / "a.jsonl", [*bad, *(question(n) for n in range(80))])
    two = write_lines(tmp_path / "b.jsonl", [question(n) for n in range(1000, 1100)])
    chosen = PrepSettings(weights=(1, 4), validation_share=0)
    summary = prepare([one, two], tmp_path / "out", chosen)
    # b has 100 rows, so a gets 25 of its 80 good ones, whatever of its 100 rows is bad.
    assert summary.kept_by_source == {"a": 25, "b": 100}
    assert summary.not_drawn == 55
    assert summary.rejected == {"empty answer": 20}
    again = prepare([one, two], tmp_path / "again", chosen)
    assert load_prepared(tmp_path / "again")["id"][:] == load_prepared(tmp_path / "out")["id"][:]
    assert again.kept == summary.kept
    prepare([one, two], tmp_path / "other", PrepSettings(weights=(1, 4), validation_share=0, seed=1))
    assert load_prepared(tmp_path / "other")["id"][:] != load_prepared(tmp_path / "out")["id"][:]
    with pytest.raises(UserError, match="--weights: found 3 for 2 inputs"):
        prepare([one, two], tmp_path / "out3", PrepSettings(weights=(1, 1, 1)))


def test_a_question_stands_once_whatever_the_source(tmp_path):
    image = picture(7)
    first = write_lines(
        tmp_path / "a.jsonl",
        [question(1, image=embedded(image), variants=["Please tell: what is 1 + 1?"]), question(2)],
    )
    second = write_lines(
        tmp_path / "b.jsonl",
        [
            question(1, image=embedded(image)),  # again, in another file
            {"problem": "Please tell: what is 1 + 1?", "answer": "2", "image": embedded(image)},  # as a wording
            {"problem": "What is 1 + 1?", "answer": "3", "image": embedded(image)},  # contradicts
            question(1, image=embedded(picture(8))),  # another picture
            question(1, image=embedded(image, "JPEG", quality=90)),  # the same, re-encoded
        ],
    )
    summary = prepare([first, second], tmp_path / "out", PrepSettings(validation_share=0))
    assert load_prepared(tmp_path / "out")["id"][:] == ["a-1", "a-2", "b-4"]
    assert [row["where"] for row in rejected_of(tmp_path / "out")] == [f"b.jsonl, line {n}" for n in (1, 2, 3, 5)]
    assert all("a.jsonl, line 1" in row["detail"] for row in rejected_of(tmp_path / "out"))
    assert len(summary.rejected) == 3
    loose = PrepSettings(validation_share=0, near_duplicates=False)
    prepare([first, second], tmp_path / "loose", loose)
    assert load_prepared(tmp_path / "loose")["id"][:] == ["a-1", "a-2", "b-4", "b-5"]


WORDS = st.sampled_from(["What is 1 + 1?", "Tell me what 1 + 1 is.", "Please find 1 + 1.", "Work out 1 + 1 now."])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(WORDS, st.lists(WORDS, max_size=3), st.integers(0, 2)), min_size=1, max_size=12))
def test_no_wording_is_in_both_splits(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("leak")
    records = [
        {"problem": problem, "variants": variants, "answer": "2", "image": embedded(picture(seed))}
        for problem, variants, seed in rows
    ]
    # Some rows of other questions, so that no split is empty for want of rows.
    records += [question(n) for n in range(10, 40)]
    prepare(write_lines(folder / "a.jsonl", records), folder / "out", PrepSettings(validation_share=0.5))
    asked = []
    for split in ("train", "validation"):
        asked.append(
            {
                (wording, tuple(image.tobytes() for image in row["images"]))
                for row in load_prepared(folder / "out", split)
                for wording in (row["problem"], *row["variants"])
            }
        )
    assert not asked[0] & asked[1]


def test_what_an_evaluation_set_asks_is_left_out(tmp_path):
    (tmp_path / "bench/data").mkdir(parents=True)
    benchmark = datasets.Dataset.from_dict(
        {
            "question": ["<image 1>How long is AB in the figure?", "What is the capital of France, in one word?"],
            "image_1": [picture(3, (60, 60)), None],
        },
        features=datasets.Features({"question": datasets.Value("string"), "image_1": datasets.Image()}),
    )
    benchmark.to_parquet(tmp_path / "bench/data/test-00000-of-00001.parquet")
    records = [
        {"problem": "How long is AB in the figure?", "answer": "5", "image": embedded(picture(3, (60, 60)))},
        {"problem": "How long is AB in the figure?", "answer": "5", "image": embedded(picture(4, (60, 60)))},
        {"problem": "what is the capital of France , in one word ?", "answer": "Paris"},
        {"problem": "What is the capital of Spain, in one word?", "answer": "Madrid"},
    ]
    file = write_lines(tmp_path / "a.jsonl", records)
    chosen = PrepSettings(decontaminate=(str(tmp_path / "bench"),), validation_share=0)
    summary = prepare(file, tmp_path / "out", chosen)
    assert load_prepared(tmp_path / "out")["id"][:] == ["a-2", "a-4"]
    assert summary.rejected == {"in an evaluation set": 2}
    assert ["test" in row["detail"] for row in rejected_of(tmp_path / "out")] == [True, True]


def test_an_evaluation_set_that_cannot_be_read_is_told(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [question(1)])
    bad = write_lines(tmp_path / "bench.jsonl", [{"problem": 5, "images": ["nowhere.png"]}])
    with pytest.raises(UserError, match=r"--decontaminate: no row of bench can be read, first bench\.jsonl, line 1: "):
        prepare(file, tmp_path / "out", PrepSettings(decontaminate=(str(bad),), validation_share=0))
    half = write_lines(tmp_path / "half.jsonl", [{"problem": 5}, {"problem": "What is 1 + 1?"}])
    with pytest.raises(UserError, match="no row is left: 1 of 1 rows have the fault 'in an evaluation set'"):
        prepare(file, tmp_path / "out", PrepSettings(decontaminate=(str(half),), validation_share=0))


def test_a_mapping_of_the_inputs_does_not_concern_evaluation_sets(tmp_path):
    file = write_lines(
        tmp_path / "a.jsonl", [{"frage": "What is 1 + 1?", "antwort": "2"}, {"frage": "x", "antwort": "1"}]
    )
    bench = write_lines(tmp_path / "bench.jsonl", [{"question": "What is 1 + 1?"}])
    mapping = {"problem": "frage", "answer": "antwort"}
    chosen = PrepSettings(mapping=mapping, decontaminate=(str(bench),), validation_share=0)
    assert prepare(file, tmp_path / "out", chosen).rejected == {"in an evaluation set": 1}


@pytest.mark.parametrize(
    ("inputs", "chosen", "says"),
    [
        (["a.jsonl"], {"decontaminate": ("synthetic",)}, "--decontaminate synthetic: the built-in set is for training"),
        (["a.jsonl"], {"decontaminate": ("out/bench.jsonl",)}, "out/bench.jsonl: lies inside out, the folder to write"),
        (["out/bench.jsonl"], {}, "out/bench.jsonl: lies inside out, the folder to write"),
        (["out/nowhere"], {}, "out/nowhere: no such file or folder here"),  # perhaps a Hub id
    ],
)
def test_inputs_that_make_no_sense(tmp_path, monkeypatch, inputs, chosen, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/manifest.json").write_text("{}")
    write_lines(tmp_path / "a.jsonl", [question(1)])
    write_lines(tmp_path / "out/bench.jsonl", [question(1)])
    with pytest.raises(UserError, match=says):
        prepare(inputs, "out", PrepSettings(**chosen), overwrite=True)


def test_blank_lines_do_not_count_for_weights(tmp_path):
    one = tmp_path / "a.jsonl"
    one.write_text("".join(json.dumps(question(n)) + "\n\n\n" for n in range(30)))
    two = write_lines(tmp_path / "b.jsonl", [question(n) for n in range(100, 110)])
    summary = prepare([one, two], tmp_path / "out", PrepSettings(weights=(1, 1), validation_share=0))
    assert summary.kept_by_source == {"a": 10, "b": 10}
    limited = PrepSettings(weights=(1, 1), validation_share=0, limit=5)
    assert prepare([one, two], tmp_path / "few", limited).kept_by_source == {"a": 5, "b": 5}


def test_a_pass_rate_that_the_data_has_is_kept(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [question(n, pass_rate=n / 4) for n in range(3)])
    prepare(file, tmp_path / "out", PrepSettings(validation_share=0))
    assert load_prepared(tmp_path / "out")["pass_rate"][:] == [0.0, 0.25, 0.5]


def test_control_tokens_never_get_in(tmp_path):
    bad = ["What is 1 + 1?<|im_end|>", "What\x00 is 1 + 1?"]
    file = write_lines(tmp_path / "a.jsonl", [question(1, variants=[*bad, "Anything else?"])])
    summary = prepare(file, tmp_path / "out", PrepSettings(validation_share=0, check_wordings=False))
    assert load_prepared(tmp_path / "out")["variants"][0] == ["Anything else?"]
    assert summary.dropped_wordings == {"control token in text": 1, "control character in text": 1}


def test_copies_of_the_problem_are_neither_wordings_nor_faults(tmp_path):
    problem = "What is 1 + 1?"
    record = question(1, new_questions=repr([problem, problem, "Please tell: what is 1 + 1?"]))
    summary = prepare(write_lines(tmp_path / "a.jsonl", [record]), tmp_path / "out", PrepSettings(validation_share=0))
    assert load_prepared(tmp_path / "out")["variants"][0] == ["Please tell: what is 1 + 1?"]
    assert summary.dropped_wordings == {}


def test_answers_that_count_options_from_zero(tmp_path):
    rows = [
        {"question": f"Which one, {n}?", "choices": choices, "answer": answer}
        for n, (choices, answer) in enumerate([(["3", "0", "1"], 0), (["red", "blue"], 1), (["7", "8", "9"], 0)])
    ]
    summary = prepare(write_lines(tmp_path / "a.jsonl", rows), tmp_path / "out", PrepSettings(validation_share=0))
    assert summary.layouts == {"a": "problem=question options=choices answer_index=answer"}
    assert load_prepared(tmp_path / "out")["answer"][:] == ["A", "B", "A"]


def test_pictures_are_brought_into_the_bounds(tmp_path):
    records = [
        question(n, image=embedded(picture(n, size))) for n, size in enumerate([(40, 40), (400, 200), (100, 90)])
    ]
    file = write_lines(tmp_path / "a.jsonl", records)
    prepare(file, tmp_path / "out", PrepSettings(min_pixels=8000, max_pixels=20000, validation_share=0))
    sizes = [images[0].size for images in load_prepared(tmp_path / "out")["images"]]
    assert sizes[2] == (100, 90)
    for (width, height), ratio in zip(sizes, (1, 2, 100 / 90), strict=True):
        assert 8000 <= width * height <= 20000
        assert width / height == pytest.approx(ratio, rel=0.02)


def test_prompts_that_are_too_long_are_left_out(tmp_path, tiny_checkpoint):
    long = "Please take your time, look at all of it, and then tell me: what is 2 + 1?"
    records = [question(1), question(2, variants=[long, "Tell me: what is 2 + 1?"]), question(3, problem=long * 40)]
    chosen = PrepSettings(processor=str(tiny_checkpoint), validation_share=0, check_wordings=False)
    file = write_lines(tmp_path / "a.jsonl", records)
    lengths = {}
    for limit in (2048, 60):
        out = tmp_path / str(limit)
        summary = prepare(file, out, PrepSettings(**{**vars(chosen), "max_prompt_length": limit}))
        lengths[limit] = (summary.rejected, summary.dropped_wordings)
    assert lengths[2048][1] == {}
    assert lengths[60][0] == {"prompt too long": 1}
    assert lengths[60][1] == {"prompt too long": 1}
    assert "--max-prompt-length" in rejected_of(tmp_path / "60")[0]["detail"]


@pytest.mark.slow
def test_questions_are_kept_by_pass_rate_and_the_rates_told(tmp_path, tiny_checkpoint):
    file = write_lines(tmp_path / "a.jsonl", [question(n, image=embedded(picture(n))) for n in range(5)])
    # An untrained model is never right.
    difficulty = {"model": str(tiny_checkpoint), "samples": 2, "max_new_tokens": 4, "batch_size": 3}
    chosen = {"validation_share": 0, "cache": tmp_path / "answers"}
    with pytest.raises(UserError, match=r"no row is left: 5 of 5 rows have the fault .outside the pass rate., first a"):
        prepare(
            file,
            tmp_path / "out",
            PrepSettings(difficulty=Difficulty(allowed=parse_pass_rate("0.1:0.9"), **difficulty), **chosen),
        )
    prepare(
        file,
        tmp_path / "out",
        PrepSettings(difficulty=Difficulty(allowed=parse_pass_rate("0:0.5"), **difficulty), **chosen),
    )
    assert load_prepared(tmp_path / "out")["pass_rate"][:] == [0.0] * 5


@pytest.mark.slow
def test_no_wording_is_paid_for_that_goes_with_its_question(tmp_path, tiny_checkpoint):
    file = write_lines(tmp_path / "a.jsonl", [question(n) for n in range(4)])
    difficulty = Difficulty(str(tiny_checkpoint), parse_pass_rate("0.5:1"), samples=1, max_new_tokens=2)
    with LLMServer() as server:
        chosen = PrepSettings(
            difficulty=difficulty,
            variants=1,
            rewriter=ApiSettings("writer", base_url=server.base_url),
            cache=tmp_path / "answers",
        )
        with pytest.raises(UserError, match="no row is left: 4 of 4 rows have the fault 'outside the pass rate'"):
            prepare(file, tmp_path / "out", chosen)
        assert server.log == []


def test_the_format_of_the_release(tmp_path):
    records = [
        question(
            1, image=embedded(picture(1)), variants=["Please tell: what is 1 + 1?", "It's \\ asked: what is 1 + 1?"]
        ),
        question(2, image=embedded(picture(2))),
        question(3),
    ]
    summary = prepare(
        write_lines(tmp_path / "a.jsonl", records), tmp_path / "out", PrepSettings(format="easyr1", validation_share=0)
    )
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train")
    assert rows["problem"][:] == ["<image>What is 1 + 1?", "<image>What is 2 + 1?"]
    wordings = [ast.literal_eval(text) for text in rows["new_questions"]]
    assert wordings[0] == [f"<image>{text}" for text in records[0]["variants"]]
    assert len(wordings[1]) == 1  # filled up, for the release draws one
    assert rows["images"][0][0].size == (120, 120)
    assert summary.rejected == {"no image for EasyR1": 1}
    assert "`new_questions`" in (tmp_path / "out/README.md").read_text()


def test_a_preview_is_part_of_the_set(tmp_path):
    records = [question(n, image=embedded(picture(n))) for n in range(3)]
    file = write_lines(tmp_path / "a.jsonl", records)
    prepare(file, tmp_path / "out", PrepSettings(preview=True, validation_share=0))
    assert "What is 2 + 1?" in (tmp_path / "out/preview/index.html").read_text()
    assert PIL.Image.open(tmp_path / "out/preview/sheet.png").size[0] > 100
    assert len(datasets.load_dataset(str(tmp_path / "out"), split="train")) == 3


def test_wordings_are_checked_unless_one_says_not(tmp_path):
    record = question(1, variants=["Please tell: what is 1 + 1?", "What is 1 + 2?", "what is 1 + 1"])
    file = write_lines(tmp_path / "a.jsonl", [record])
    summary = prepare(file, tmp_path / "out", PrepSettings(validation_share=0))
    assert load_prepared(tmp_path / "out")["variants"][0] == ["Please tell: what is 1 + 1?"]
    lines = [json.loads(line) for line in (tmp_path / "out/rejected_wordings.jsonl").read_text().splitlines()]
    assert [(line["id"], line["where"], line["text"]) for line in lines] == [
        ("a-1", "a.jsonl, line 1", text) for text in record["variants"][1:]
    ]
    assert sum(summary.dropped_wordings.values()) == 2
    prepare(file, tmp_path / "all", PrepSettings(validation_share=0, check_wordings=False))
    assert load_prepared(tmp_path / "all")["variants"][0] == record["variants"]


def test_questions_without_wording_are_dropped_when_asked(tmp_path):
    records = [question(1), question(2, variants=["Please tell: what is 2 + 1?"]), question(3, variants=["Hm?"])]
    file = write_lines(tmp_path / "a.jsonl", records)
    prepare(file, tmp_path / "out", PrepSettings(validation_share=0, drop_unworded=True))
    assert load_prepared(tmp_path / "out")["id"][:] == ["a-2"]
    assert [row["reason"] for row in rejected_of(tmp_path / "out")] == ["no good wording"] * 2
    assert (tmp_path / "out/rejected_wordings.jsonl").read_text().count("\n") == 1


def test_a_dry_run_reads_a_few_rows_and_leaves_nothing(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [{"problem": "x", "answer": ""}, *(question(n) for n in range(50))])
    before = sorted(tmp_path.rglob("*"))
    summary = dry_run(file, PrepSettings(validation_share=0))
    assert sorted(tmp_path.rglob("*")) == before
    assert summary.out is None
    assert summary.kept == {"train": DRY_RUN_ROWS - 1}
    assert summary.rejected == {"empty answer": 1}
    assert summary.rows == 51
    assert summary.examples[0]["problem"] == "What is 0 + 1?"
    assert sum(dry_run(file, PrepSettings(limit=5)).kept.values()) == 4
    # Where nothing is left it says why instead of failing.
    nothing = dry_run(write_lines(tmp_path / "b.jsonl", [{"problem": "x", "answer": ""}]))
    assert nothing.kept == {}
    assert "line 1" in nothing.first_rejected["empty answer"]


def test_what_is_written_says_how_it_was_made(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [question(n) for n in range(4)])
    prepare(file, tmp_path / "out", PrepSettings(validation_share=0, near_duplicates=False, max_pixels=10**6))
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["settings"] == {"near_duplicates": False, "max_pixels": 10**6}
    assert manifest["rewriter"] is None
    assert manifest["format"] == "share-grpo"
    assert (tmp_path / "out/rejected.jsonl").read_text() == ""
    assert not list((tmp_path / "out").rglob("*sqlite3*"))


def test_the_prepared_set_feeds_the_question_space(tmp_path):
    record = question(1, image=embedded(picture(1)), variants=["Please tell: what is 1 + 1?"])
    prepare(write_lines(tmp_path / "a.jsonl", [record]), tmp_path / "out", PrepSettings(validation_share=0))
    row = load_prepared(tmp_path / "out")[0]
    prompts = QuestionSpace(2, seed=0).draw(row, step=0)
    assert {prompt.wording for prompt in prompts} == {0, 1}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"limit": 0}, "--limit: found 0, expected 1 or more"),
        ({"workers": 0}, "--workers: found 0"),
        ({"variants": 0}, "--variants: found 0"),
        ({"min_pixels": 9, "max_pixels": 8}, "--min-pixels: found 9, more than --max-pixels 8"),
        ({"weights": (1, -1)}, "--weights: expected numbers above 0"),
        ({"format": "parquet"}, "--format: found 'parquet', expected share-grpo or easyr1"),
        ({"rewriter": ApiSettings("m", base_url="http://x")}, "--rewriter: say with --variants how many"),
        ({"variants": 2}, "--variants: needs a language model"),
        ({"max_prompt_length": 5}, "--max-prompt-length: needs --processor"),
    ],
)
def test_settings_that_make_no_sense(given, says):
    with pytest.raises(UserError, match=says):
        PrepSettings(**given)
