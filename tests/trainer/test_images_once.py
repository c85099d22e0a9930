"""Images are decoded, prepared, encoded and sent once, and rewards and trackers see them as they always did."""

import pickle
from collections import Counter
from types import SimpleNamespace

import datasets
import pytest
import torch
from datasets import Dataset, Features, List, Value
from PIL import Image
from rollouts import GradientRecorder, RecordingTrainer, hash_reward, make_dataset, make_trainer, pixels_of
from trl.trainer import grpo_trainer

from r1_sharevl import ShareGRPOTrainer, shared_work_trainer
from r1_sharevl.data.synthetic import synthetic_rows
from r1_sharevl.errors import UserError
from r1_sharevl.models.tiny import build_tiny_model
from r1_sharevl.rollouts.tokens import prepare_images

PATCHES = 64  # of each image of the built-in set, for the tiny model
MODES = pytest.mark.parametrize("shared_prefix", ["on", "off"])


class CountingTrainer(RecordingTrainer):
    """Notes how many distinct images each generation batch's prompts show, and what the vision tower is given."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.encoded = []  # the images of each time a vision tower runs
        for network in filter(None, (self.model, self.ref_model)):
            network.model.visual.patch_embed.register_forward_pre_hook(self._count)

    def _count(self, _, args):
        self.encoded.append([pixels.detach().numpy().tobytes() for pixels in args[0].split(PATCHES)])


class LongResponses(CountingTrainer):
    """Is handed responses that are much longer than their prompts, so that packing saves little."""

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        generator = torch.Generator().manual_seed(self.state.global_step)
        words = torch.randint(20, 100, (len(prompt_ids), self.max_completion_length), generator=generator)
        return words.tolist(), None


class PlainRecorder(ShareGRPOTrainer):
    """Keeps what goes to the loss."""

    def _generate_and_score_completions(self, inputs):
        self.trained = [*getattr(self, "trained", []), super()._generate_and_score_completions(inputs)]
        return self.trained[-1]


@pytest.fixture
def prepared(monkeypatch, processor):
    """Number of images in each call of the image processor."""
    calls = []
    kind = type(processor.image_processor)
    preprocess = kind._preprocess

    def counted(self, images, *args, **kwargs):
        calls.append(len(images))
        return preprocess(self, images, *args, **kwargs)

    monkeypatch.setattr(kind, "_preprocess", counted)
    return calls


def shown(messages):
    return [part["image"] for message in messages for part in message["content"] if part["type"] == "image"]


@MODES
def test_each_distinct_image_is_decoded_prepared_and_encoded_once(
    tmp_path, tiny_checkpoint, processor, decoded, prepared, shared_prefix
):
    rows = make_dataset(4)
    trainer = make_trainer(
        tmp_path,
        str(tiny_checkpoint),
        processor,
        dataset=rows,
        trainer_class=CountingTrainer,
        shared_prefix=shared_prefix,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        transform_probability=0.5,
        **({"num_iterations": 2, "beta": 0.1, "max_steps": 4} if shared_prefix == "on" else {"max_steps": 2}),
    )
    prepared.clear()
    decoded.clear()
    trainer.train()
    assert decoded["images"] == 4, "four rows, each in 8 rows of 2 or 4 micro-batches"

    distinct = [len({id(image) for prompt in asked for image in shown(prompt)}) for asked in trainer.asked]
    assert distinct != [2, 2], "some prompts show a transformed image"
    if shared_prefix == "on":
        assert prepared == distinct
        assert len(trainer.encoded) == 2 * (1 + 2 + 2) + 4 * 2, "generation, old, reference and loss passes"
        assert all(len(set(images)) == len(images) for images in trainer.encoded), "no image twice in a pass"
        for generation, count in zip(trainer.encoded[:: len(trainer.encoded) // 2], distinct, strict=True):
            assert len(generation) == count
    else:
        assert prepared == 2 * [8, 4, 16], "of the generated rows, of the distinct prompts, of all rows"


def test_ordinary_rows_of_a_run_that_shares_encode_each_image_once_with_the_same_gradients(
    tmp_path, tiny_checkpoint, processor, caplog
):
    runs = {}
    for mode in ("auto", "off"):
        trainer = make_trainer(
            tmp_path / mode,
            str(tiny_checkpoint),
            processor,
            dataset=make_dataset(2),
            trainer_class=LongResponses,
            shared_prefix=mode,
            num_generations=2,
            gradient_accumulation_steps=1,
            gradient_checkpointing=True,
            max_completion_length=420,
            num_iterations=2,
            max_steps=2,
            beta=0.1,
            transform_probability=0.0,
        )
        recorder = GradientRecorder()
        trainer.add_callback(recorder)
        trainer.train()
        runs[mode] = ([len(images) for images in trainer.encoded], recorder.gradients)
    assert [record for record in caplog.records if "are trained as ordinary rows" in record.message]
    (shared, found), (ordinary, expected) = runs.values()
    assert shared == 4 * [2], "in old and reference passes, and twice in the loss"
    assert [count for count in ordinary if count != 8] == []
    for own, other in zip(found, expected, strict=True):
        assert any(name.startswith("model.visual") for name in own)
        for name, value in own.items():
            assert torch.allclose(value, other[name], rtol=1e-4, atol=1e-6), name


def several_images(column):
    """Rows whose images stand in one column, with prompts as TRL takes them."""
    pictures = [row["images"][0] for row in synthetic_rows("train", 4, 0)]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How many dots?"}]
    if column == "image":
        rows = [{"prompt": messages, "image": picture} for picture in pictures]
        kind = datasets.Image()
    else:
        rows = [{"prompt": messages, "images": pictures[: index % 3]} for index in range(4)]
        kind = List(datasets.Image())
    features = {"prompt": List({"role": Value("string"), "content": Value("string")}), column: kind}
    return Dataset.from_list(rows, features=Features(features))


@pytest.mark.parametrize("column", ["image", "images", None])
def test_rewards_get_prompts_and_images_as_ordinary_rows_have_them(tmp_path, processor, column):
    received = {}
    for mode in ("on", "off"):
        received[mode] = []

        def reward(prompts, completions, mode=mode, **columns):
            for name in ("completion_ids", "log_extra", "log_metric", "trainer_state"):
                columns.pop(name)
            received[mode].append((prompts, columns))
            return hash_reward(completions)

        trainer = make_trainer(
            tmp_path / mode,
            build_tiny_model(processor),
            processor,
            reward=reward,
            dataset=make_dataset(4) if column is None else several_images(column),
            trainer_class=ShareGRPOTrainer,
            num_variants=2 if column is None else 1,
            shared_prefix=mode,
            transform_probability=0.8,
        )
        trainer.train()
    assert received["on"] == received["off"]
    ((prompts, columns),) = received["on"]
    images = columns[column or "images"]
    assert any(images)
    for prompt, own in zip(prompts, images, strict=True):
        assert shown(prompt) == ([own] if column == "image" else own)
        assert all(isinstance(image, Image.Image) for image in shown(prompt))


def tables_of(tmp_path, tiny_model, processor, monkeypatch, **settings):
    """Train a step with a tracker that shows images, and return what it was handed."""
    tables = []
    tracker = SimpleNamespace(
        Image=lambda image: image,
        Table=lambda dataframe: dataframe,
        log=lambda logs: tables.append(logs["completions"]),
    )
    monkeypatch.setattr(grpo_trainer, "trackio", tracker, raising=False)
    rows = list(make_dataset(4))
    rows[0] |= {"images": [], "problem": "What is 2 + 2?", "variants": ["Add 2 and 2."]}
    rows[1] |= {
        "images": rows[1]["images"] + rows[2]["images"],
        "problem": "<image> or <image>?",
        "variants": ["Which: <image> <image>?"],
    }
    dataset = Dataset.from_list(rows, features=make_dataset(1).features)
    settings = {"dataset": dataset, "per_device_train_batch_size": 16, "transform_probability": 0.5} | settings
    settings |= {"log_completions": True, "num_completions_to_print": 1}
    trainer = make_trainer(tmp_path, tiny_model, processor, **settings)
    trainer.args.report_to = ["trackio"]  # whose callback would want it installed
    trainer.train()
    return trainer, tables


@MODES
def test_tables_of_completions_show_the_images_of_each_row(tmp_path, tiny_model, processor, monkeypatch, shared_prefix):
    trainer, tables = tables_of(tmp_path, tiny_model, processor, monkeypatch, shared_prefix=shared_prefix)
    table, (trained,) = tables[0], trainer.trained
    assert {len(images) for images in table["image"]} == {0, 1, 2}
    assert list(map(len, table["image"])) == [len(images) for images in pixels_of(trained)]
    for prompt, images, pixels in zip(table["prompt"], table["image"], pixels_of(trained), strict=True):
        assert prompt.count("<image>") == len(images)
        for image, own in zip(images, pixels, strict=True):
            assert torch.equal(processor.image_processor(image, return_tensors="pt")["pixel_values"], own)


def test_tables_without_images_if_the_user_wants_none(tmp_path, tiny_model, processor, monkeypatch):
    _, (table, *_) = tables_of(tmp_path, tiny_model, processor, monkeypatch, shared_prefix="on", log_multimodal=False)
    assert "image" not in table


def test_images_are_not_sent_between_processes(tmp_path, processor, monkeypatch):
    sent = Counter()
    for mode in ("on", "off"):

        def gathered(objects, mode=mode):
            sent[mode] += len(pickle.dumps(objects))
            return objects

        for module in (grpo_trainer, shared_work_trainer):
            monkeypatch.setattr(module, "gather_object", gathered)
        trainer = make_trainer(
            tmp_path / mode, build_tiny_model(processor), processor, shared_prefix=mode, log_completions=True
        )
        trainer.train()
    assert sent["on"] < 16 * 1000, "bytes for 16 rows"
    assert sent["off"] > 10 * sent["on"], "where each prompt is sent with its images"


def test_images_beside_plain_texts_are_refused(tmp_path, tiny_model, processor):
    rows = [{"prompt": "How many dots?", "images": row["images"]} for row in synthetic_rows("train", 4, 0)]
    features = Features({"prompt": Value("string"), "images": List(datasets.Image())})
    trainer = make_trainer(
        tmp_path,
        tiny_model,
        processor,
        dataset=Dataset.from_list(rows, features=features),
        num_variants=1,
        shared_prefix="on",
    )
    with pytest.raises(UserError, match="give the prompt as messages"):
        trainer.train()


def test_an_image_that_the_processor_refuses_is_said_in_a_line(processor):
    with pytest.raises(UserError, match=r"^an image cannot be prepared for the model: .*aspect ratio.*$"):
        prepare_images(processor, [Image.new("RGB", (2000, 5))])


def test_prompts_that_are_plain_texts_are_tokenised_without_a_template(tmp_path, tiny_model, processor):
    rows = Dataset.from_list([{"prompt": f"{index} + 2 = "} for index in range(4)])
    trainer = make_trainer(
        tmp_path,
        tiny_model,
        processor,
        dataset=rows,
        trainer_class=PlainRecorder,
        num_variants=1,
        shared_prefix="on",
    )
    trainer.train()
    (trained,) = trainer.trained
    prompts = [
        ids[mask.bool()].tolist() for ids, mask in zip(trained["prompt_ids"], trained["prompt_mask"], strict=True)
    ]
    expected = processor.tokenizer(rows["prompt"][:])["input_ids"]
    assert {tuple(ids) for ids in prompts} == {tuple(ids) for ids in expected}


def test_a_stream_trains_on_images_prepared_once(tmp_path, tiny_model, processor, prepared):
    trainer = make_trainer(
        tmp_path,
        tiny_model,
        processor,
        dataset=make_dataset(8).to_iterable_dataset(),
        shared_prefix="on",
        max_steps=2,
        transform_probability=0.0,
    )
    prepared.clear()
    trainer.train()
    assert prepared == [2, 2]
