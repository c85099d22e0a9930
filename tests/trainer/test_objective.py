"""The gradient of a step is that of the paper's objective, computed with plain loops over the recorded pairs."""

import copy
import statistics
from collections import defaultdict

import pytest
import torch
from rollouts import GradientRecorder, make_trainer, rows_of


def log_probabilities(model, processor, messages, response):
    """Log-probabilities of the tokens of one response after one prompt: one forward pass, no batch, no padding."""
    inputs = processor.apply_chat_template(
        [messages], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    prompt_length = inputs["input_ids"].shape[1]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([response])], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["mm_token_type_ids"] = torch.nn.functional.pad(
        torch.as_tensor(inputs["mm_token_type_ids"]), (0, len(response))
    )
    logits = model(**inputs).logits[0, prompt_length - 1 : -1]
    return torch.stack([logits[t].log_softmax(-1)[token] for t, token in enumerate(response)])


def objective(model, processor, batch, old, epsilon):
    """The design's objective, term by term; `old` holds the log-probabilities before the first update."""
    total, pairs = torch.zeros(()), 0
    for prompts in batch.values():
        everything = [reward for responses in prompts.values() for _, reward in responses["sampled"]]
        for own_key, own in prompts.items():
            own_rewards = [reward for _, reward in own["sampled"]]
            for index, (response, reward) in enumerate(own["sampled"]):
                for key, prompt in prompts.items():
                    advantage = (reward - statistics.mean(everything)) / (statistics.stdev(everything) + 1e-4)
                    if key == own_key:
                        advantage += (reward - statistics.mean(own_rewards)) / (statistics.stdev(own_rewards) + 1e-4)
                    logps = log_probabilities(model, processor, prompt["messages"], response)
                    before = old.setdefault((key, own_key, index), logps.detach())
                    terms = []
                    for t in range(len(response)):
                        ratio = torch.exp(logps[t] - before[t])
                        clipped = torch.clamp(ratio, 1 - epsilon[0], 1 + epsilon[1])
                        terms.append(torch.minimum(ratio * advantage, clipped * advantage))
                    total = total + torch.stack(terms).mean()
                    pairs += 1
    return total / pairs


@pytest.mark.parametrize(("m", "shared_prefix"), [(2, "on"), (2, "off"), (3, "on")])
def test_gradient_equals_the_formula(tmp_path, tiny_model, processor, m, shared_prefix):
    initial = copy.deepcopy(tiny_model)
    recorder = GradientRecorder()
    trainer = make_trainer(
        tmp_path,
        tiny_model,
        processor,
        num_variants=m,
        shared_prefix=shared_prefix,
        num_generations=3 * m,
        per_device_train_batch_size=3 * m * m,
        gradient_accumulation_steps=2,  # two questions
        num_iterations=2,  # the second step has ratios other than 1
        max_steps=2,
        loss_type="grpo",
        epsilon=0.05,
        epsilon_high=0.1,
        learning_rate=3e-3,
        max_grad_norm=0,
        transform_probability=0.5,
        gradient_checkpointing=False,
    )
    trainer.add_callback(recorder)
    trainer.train()

    (sampled,), (rewarded,), (trained,), (asked,) = trainer.sampled, trainer.rewarded, trainer.trained, trainer.asked
    messages_of = {tuple(prompt): messages for (prompt, *_), messages in zip(rows_of(trained), asked, strict=True)}
    batch = defaultdict(dict)
    for (prompt, response), (_, reward, row_id) in zip(sampled, rewarded, strict=True):
        entry = batch[row_id].setdefault(tuple(prompt), {"messages": messages_of[tuple(prompt)], "sampled": []})
        entry["sampled"].append((response, reward))
    assert len(batch) == 2

    old = {}
    assert len(recorder.gradients) == 2
    for step in range(2):
        model = copy.deepcopy(initial)
        model.load_state_dict(recorder.parameters[step], strict=False)
        model.zero_grad()
        (-objective(model, processor, batch, old, epsilon=(0.05, 0.1))).backward()
        expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        assert set(expected) == set(recorder.gradients[step])
        difference = sum((expected[n] - g).square().sum() for n, g in recorder.gradients[step].items()).sqrt()
        size = sum(g.square().sum() for g in expected.values()).sqrt()
        assert size > 1e-3, "a gradient of nothing proves nothing"
        assert difference / size < 1e-4, f"step {step}: relative error {difference / size:.2e}"
    assert trainer.state.log_history[1]["clip_ratio/region_mean"] > 0, "the second step must reach the clipped region"
