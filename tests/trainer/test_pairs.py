"""Each pair's prompt, response and advantage are the right ones, held against a recording of the rollouts."""

import re
import statistics
from collections import Counter, defaultdict

import pytest
import torch
from datasets import Dataset
from rollouts import hash_reward, make_dataset, make_trainer, pixels_of, rows_of


def plain_advantages(rewards, levels=("global", "local")):
    """`{prompt: [reward of each of its responses]}` to `{(prompt, index): (own advantage, shared advantage)}`."""
    everything = [r for own in rewards.values() for r in own]
    advantages = {}
    for prompt, own in rewards.items():
        for index, reward in enumerate(own):
            over_question = (reward - statistics.mean(everything)) / (statistics.stdev(everything) + 1e-4)
            over_prompt = (reward - statistics.mean(own)) / (statistics.stdev(own) + 1e-4) if len(own) > 1 else 0.0
            shared = over_question if "global" in levels else 0.0
            advantages[prompt, index] = (shared + (over_prompt if "local" in levels else 0.0), shared)
    return advantages


@pytest.mark.parametrize(
    ("m", "per_question", "levels"),
    [
        (2, 4, ["global", "local"]),
        (3, 6, ["global", "local"]),
        (2, 2, ["global", "local"]),
        (2, 6, ["local"]),
        (2, 6, ["global"]),
    ],
)
def test_every_pair_has_the_right_prompt_response_and_advantage(
    tmp_path, tiny_model, processor, m, per_question, levels
):
    questions = 2
    rows_per_question = m * per_question
    trainer = make_trainer(
        tmp_path,
        tiny_model,
        processor,
        num_variants=m,
        num_generations=per_question,
        per_device_train_batch_size=rows_per_question * questions // 2,
        advantage_levels=levels,
        transform_probability=0.5,
        max_steps=2,
    )
    trainer.train()

    assert len(trainer.sampled) == 2
    for sampled, rewarded, trained in zip(trainer.sampled, trainer.rewarded, trainer.trained, strict=True):
        rows = rows_of(trained)
        assert len(rows) == questions * rows_per_question
        assert len(sampled) * m == len(rows), "exactly 1/m of the trained rows are generated"
        assert len(rewarded) == len(sampled), "each response is rewarded once"

        # The recording: which question each prompt belongs to, and what each response to it was worth.
        question_of, rewards = {}, defaultdict(lambda: defaultdict(list))
        for (prompt, response), (text, reward, row_id) in zip(sampled, rewarded, strict=True):
            assert text == processor.tokenizer.decode(response, skip_special_tokens=True)
            question_of[tuple(prompt)] = row_id
            rewards[row_id][tuple(prompt)].append((tuple(response), reward))
        assert len(rewards) == questions
        assert all(len(prompts) == m for prompts in rewards.values()), "m distinct prompts per question"

        expected = Counter()
        for prompts in rewards.values():
            values = plain_advantages({p: [r for _, r in own] for p, own in prompts.items()}, levels)
            for own_prompt, own in prompts.items():
                for index, (response, _) in enumerate(own):
                    for prompt in prompts:
                        advantage = values[own_prompt, index][0 if prompt == own_prompt else 1]
                        expected[prompt, response, round(advantage, 3), prompt != own_prompt] += 1
        found = Counter((tuple(p), tuple(r), round(a, 3), shared) for p, r, a, shared in rows)
        assert found == expected


def test_without_sharing_every_response_trains_under_its_own_prompt(tmp_path, tiny_model, processor):
    trainer = make_trainer(tmp_path, tiny_model, processor, share_trajectories=False, num_generations=8)
    trainer.train()
    (sampled,), (rewarded,), (trained,) = trainer.sampled, trainer.rewarded, trainer.trained
    rows = rows_of(trained)
    assert [(p, r) for p, r, _, _ in rows] == sampled
    assert not any(shared for *_, shared in rows)
    rewards = defaultdict(lambda: defaultdict(list))
    for (prompt, _), (_, reward, row_id) in zip(sampled, rewarded, strict=True):
        rewards[row_id][tuple(prompt)].append(reward)
    expected = [advantage for prompts in rewards.values() for advantage, _ in plain_advantages(prompts).values()]
    assert [a for _, _, a, _ in rows] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("shared_prefix", ["on", "off"])
def test_images_of_a_row_are_those_of_its_prompt(tmp_path, tiny_model, processor, shared_prefix):
    settings = {"shared_prefix": shared_prefix, "transform_probability": 0.5, "max_steps": 3}
    trainer = make_trainer(tmp_path, tiny_model, processor, **settings)
    trainer.train()
    hinted = []
    for trained, dataset_rows in zip(trainer.trained, trainer.dataset_rows, strict=True):
        for (pixels,), row, (prompt, *_) in zip(pixels_of(trained), dataset_rows, rows_of(trained), strict=True):
            text = processor.tokenizer.decode(prompt).split("<|im_start|>user\n")[1]
            text = re.sub(r"<\|vision_start\|>.*<\|vision_end\|>", "", text)
            wordings = [wording.replace("<image>", "").strip() for wording in (row["problem"], *row["variants"])]
            hinted.append(not text.startswith(tuple(wordings)))
            untouched = processor.image_processor(row["images"], return_tensors="pt")["pixel_values"]
            assert torch.equal(pixels, untouched) != hinted[-1], text
    assert len(hinted) == 3 * 16
    assert 0 < sum(hinted) < len(hinted)


def test_rewards_of_none_leave_the_response_out(tmp_path, tiny_model, processor):
    def some(completions, **kwargs):
        return [None if index % 3 == 0 else value for index, value in enumerate(hash_reward(completions))]

    trainer = make_trainer(tmp_path, tiny_model, processor, reward=some, num_generations=8)
    trainer.train()
    rows, (rewarded,) = rows_of(trainer.trained[0]), trainer.rewarded
    for slot, (_, reward, _) in enumerate(rewarded):
        for _, _, advantage, _ in rows[2 * slot : 2 * slot + 2]:
            assert (advantage == 0.0) if reward is None else True
    assert any(advantage for *_, advantage, _ in rows)


@pytest.mark.parametrize("shared_prefix", ["on", "off"])
def test_text_only_and_multi_image_rows_train_in_one_batch(tmp_path, tiny_model, processor, shared_prefix):
    features, rows = make_dataset(1).features, list(make_dataset(4))
    pictures = [row["images"][0] for row in rows]
    texts = ["First <image> then <image>: which has more dots?", "Which of <image> and <image> shows more dots?"]
    rows[1] |= {"images": pictures[:2], "problem": texts[0], "variants": texts[1:]}
    rows[2] |= {"images": [], "problem": "What is 2 + 2?", "variants": ["Add 2 and 2."]}
    dataset = Dataset.from_list(rows, features=features)
    trainer = make_trainer(
        tmp_path,
        tiny_model,
        processor,
        dataset=dataset,
        shared_prefix=shared_prefix,
        per_device_train_batch_size=16,
        max_steps=2,
        transform_probability=0.8,
    )
    trainer.train()
    seen = Counter(len(row["images"]) for rows in trainer.dataset_rows for row in rows)
    assert set(seen) == {0, 1, 2}
    for trained, rows in zip(trainer.trained, trainer.dataset_rows, strict=True):
        assert [len(images) for images in pixels_of(trained)] == [len(row["images"]) for row in rows]
