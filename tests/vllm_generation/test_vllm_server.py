"""Server mode over real HTTP, against a server that speaks vLLM's protocol; only the NCCL transfer is replaced."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from rollouts import RecordingTrainer, hash_reward, make_config
from standin_server import StandInServer
from transformers import Qwen2_5_VLForConditionalGeneration
from trl.generation import vllm_client, vllm_generation

from r1_sharevl import UserError
from r1_sharevl.errors import RunError
from r1_sharevl.models.checkpoints import vision_token_ids
from r1_sharevl.vllm import support

requests = pytest.importorskip("requests", reason="TRL's vLLM client needs requests, which comes with vLLM")
GAP = "sampling/sampling_logp_difference"


@pytest.fixture
def serve(checkpoint, processor, monkeypatch):
    """Start servers. vLLM itself is not needed on the trainer's side but for NCCL, so the check for it is answered."""
    for module in (vllm_client, vllm_generation, support):
        monkeypatch.setattr(module, "is_vllm_available", lambda min_version=None: True)
    servers = []

    def start(**settings):
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(checkpoint).eval()
        server = StandInServer(model, processor, **settings)
        servers.append(server)

        def join(client, device):
            assert client.get_server_info()["weight_transfer_config"]
            assert client.get_world_size() == 1

        def update(client, metadata, named_params):
            client._start_weight_update()
            server.load(named_params)
            client._finish_weight_update()

        monkeypatch.setattr(vllm_client.VLLMClient, "init_communicator", join)
        monkeypatch.setattr(vllm_client.VLLMClient, "update_named_params", update)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def make_client(tmp_path, checkpoint, processor, mixed_rows):
    def make(url, peft_config=None, **settings):
        defaults = {
            "use_vllm": True,
            "vllm_mode": "server",
            "vllm_server_base_url": url,
            "vllm_server_timeout": 0.0,
            "model_init_kwargs": {"dtype": "float32"},
            "per_device_train_batch_size": 16,
            "transform_probability": 0.5,
        }
        trainer = RecordingTrainer(
            str(checkpoint),
            hash_reward,
            make_config(tmp_path / "run", **(defaults | settings)),
            mixed_rows,
            processing_class=processor,
            peft_config=peft_config,
        )
        trainer.vllm_generation.vllm_client.session.mount("http://", requests.adapters.HTTPAdapter(max_retries=0))
        return trainer

    return make


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_each_prompt_is_asked_once_and_the_answers_find_their_rows(serve, make_client, processor, lora):
    server = serve()
    peft_config = LoraConfig(r=4, target_modules=["o_proj"]) if lora else None
    trainer = make_client(server.url, peft_config, max_steps=2, learning_rate=1e-2, generation_kwargs={"seed": 1})
    trainer.train()

    history = [entry for entry in trainer.state.log_history if f"{GAP}/max" in entry]
    assert len(history) == 2
    assert max(entry[f"{GAP}/max"] for entry in history) < 1e-3
    n = trainer.layout.responses_per_prompt
    asked = iter(server.asked)
    for sampled in trainer.sampled:
        answered = {}
        for _ in dict.fromkeys(tuple(prompt) for prompt, _ in sampled):
            body, responses = next(asked)
            answered[tuple(body["token_ids"])] = responses
            assert body["sampling_params"]["n"] == n
            assert body["sampling_params"]["seed"] == 1
        expected = [(list(prompt), response) for prompt, responses in answered.items() for response in responses]
        assert sorted(sampled) == sorted(expected), "ids as trained, every image token in place, and each answer once"
    assert next(asked, None) is None
    images = {len(b["features"]["mm_hashes"]["image"]) if b["features"] else 0 for b, _ in server.asked}
    assert images == {0, 1, 2}
    vision = set(vision_token_ids(processor, trainer.model.config))
    assert not any(vision & set(response) for _, responses in server.asked for response in responses)
    assert server.posted.count("/reset_prefix_cache") == server.posted.count("/reset_encoder_cache") == 2

    # Two questions and more per batch: the pairs' log-probabilities are those of their own prompts, or none.
    for trained in trainer.trained:
        none = torch.isnan(trained["sampling_per_token_logps"]).all(dim=-1)
        assert torch.equal(none, trained["is_shared"])
        gaps = (trained["old_per_token_logps"] - trained["sampling_per_token_logps"])[~none]
        assert (gaps * trained["completion_mask"][~none]).abs().max() < 1e-3
        assert (trained["importance_sampling_ratio"][none] == 1.0).all()


@pytest.mark.parametrize("correction", [True, False])
def test_a_server_with_another_model_stops_the_run(serve, make_client, monkeypatch, correction):
    server = serve()
    server.model.lm_head.weight.data.neg_()
    server.load = lambda named_params: None
    trainer = make_client(server.url, vllm_importance_sampling_correction=correction)
    with pytest.raises(RunError, match=r"disagree: .* differ by \d\.\d+ on average.*checkpoints on disk are safe"):
        trainer.train()
    if not correction:
        trainer.args.max_vllm_logprob_gap = None
        trainer.train()
        assert trainer.state.global_step == 1


def test_other_pixel_bounds_are_one_line(serve, make_client):
    trainer = make_client(serve(max_pixels=56 * 56).url)
    wanted = (
        r"makes \[.*4\] tokens .* training has \[.*16\].*start it with --mm-processor-kwargs '\{\"min_pixels\": 3136"
    )
    with pytest.raises(UserError, match=wanted) as stopped:
        trainer.train()
    assert "\n" not in str(stopped.value)


def test_a_server_that_is_gone_is_one_line(serve, make_client, monkeypatch):
    server = serve()
    trainer = make_client(server.url, max_steps=2)
    generate = type(trainer.vllm_generation).generate

    def generate_then_lose(*args, **kwargs):
        result = generate(*args, **kwargs)
        server.stop()
        monkeypatch.setattr(server, "stop", lambda: None)
        return result

    monkeypatch.setattr(type(trainer.vllm_generation), "generate", generate_then_lose)
    with pytest.raises(RunError, match=f"server at {server.url} failed: .*continue with --resume") as stopped:
        trainer.train()
    assert trainer.state.global_step == 1
    assert "\n" not in str(stopped.value)

    prompts = [prompt for prompt, _ in trainer.sampled[0][:2]]
    with pytest.raises(RunError, match=r"failed: .*continue with --resume"):
        generate(trainer.vllm_generation, prompts, None, 2)


def test_a_server_that_is_not_there_is_one_line(serve, make_client):
    url = serve().url
    with pytest.raises(requests.ConnectionError):
        requests.get("http://127.0.0.1:9/health", timeout=5)
    with pytest.raises(UserError, match=r"no vLLM server answers at http://127\.0\.0\.1:9: start it") as stopped:
        make_client("http://127.0.0.1:9")
    assert "\n" not in str(stopped.value)
    make_client(url)


@pytest.mark.slow
@pytest.mark.parametrize(("spoil", "message"), [("weights", "differ by"), ("gone", "continue with --resume")])
def test_both_ranks_stop_with_the_same_line(tmp_path, checkpoint, spoil, message):
    script = Path(__file__).parent / "two_ranks.py"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, *launcher, str(script), str(checkpoint), str(tmp_path), spoil], env=environment, timeout=240
    )
    errors = [(tmp_path / f"error_{rank}.txt").read_text() for rank in range(2)]
    assert errors[0] == errors[1]
    assert errors[0].startswith("RunError: ")
    assert message in errors[0]
