"""A Share-GRPO step with LoRA on a real tiny model of every family, from a checkpoint, images and all."""

import copy

import PIL.Image
import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from families import FAMILIES, save_family
from peft import get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import AutoModelForImageTextToText, Idefics2ImageProcessor
from trl import ModelConfig

from r1_sharevl import ShareGRPOConfig, ShareGRPOTrainer
from r1_sharevl.data.synthetic import synthetic_rows
from r1_sharevl.errors import UserError
from r1_sharevl.models.adapters import adapter_config
from r1_sharevl.models.checkpoints import load_processor, set_pixel_bounds
from r1_sharevl.models.skeleton import load_skeleton
from r1_sharevl.models.vision import stop_gradients_at_vision, vision_parts

TOWER_AND_PROJECTOR = ("model.vision_tower", "model.multi_modal_projector")
VISION_PARTS = {
    "qwen2_vl": ("model.visual",),
    "qwen2_5_vl": ("model.visual",),
    "qwen3_vl": ("model.visual",),
    "qwen3_vl_moe": ("model.visual",),
    "llava": TOWER_AND_PROJECTOR,
    "llava_next": TOWER_AND_PROJECTOR,
    "llava_onevision": TOWER_AND_PROJECTOR,
    "gemma3": TOWER_AND_PROJECTOR,
    "internvl": TOWER_AND_PROJECTOR,
    "idefics3": ("model.vision_model", "model.connector"),
    "smolvlm": ("model.vision_model", "model.connector"),
    "mistral3": TOWER_AND_PROJECTOR,
}
LAYER = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
QWEN_TOKENS = {"<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"}
IDEFICS_TOKENS = {"<image>", "<fake_token_around_image>", "<global-img>", "<row_1_col_1>", "<row_6_col_6>"}
VISION_TOKENS = {
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"), QWEN_TOKENS),
    "llava": {"<image>"},
    "llava_next": {"<image>"},
    "llava_onevision": {"<image>", "<video>"},
    "gemma3": {"<start_of_image>", "<end_of_image>", "<image_soft_token>"},
    "internvl": {"<img>", "</img>", "<IMG_CONTEXT>", "<video>"},
    **dict.fromkeys(("idefics3", "smolvlm"), IDEFICS_TOKENS),
    "mistral3": {"[IMG]", "[IMG_BREAK]", "[IMG_END]"},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Folder of a family's checkpoint, written when it is first asked for."""
    written = {}

    def of(name):
        if name not in written:
            written[name] = save_family(name, tmp_path_factory.mktemp(name))
        return str(written[name])

    return of


@pytest.fixture(scope="module")
def dataset():
    """Two questions, the second with two images."""
    first, second, more = synthetic_rows("train", 3, seed=0)
    second["images"] = [*second["images"], *more["images"]]
    second["problem"] = f"<image>{second['problem']}"
    second["variants"] = [f"<image>{variant}" for variant in second["variants"]]
    kinds = {key: Value("string") for key in first} | {"images": List(Image()), "variants": List(Value("string"))}
    return Dataset.from_list([first, second], features=Features(kinds))


class WatchingTrainer(ShareGRPOTrainer):
    """Keeps what was asked, and what each micro-batch of the first generation was trained on."""

    def __init__(self, *args, **kwargs):
        self.asked, self.batches = [], []
        self.vision_outputs_with_gradient = []
        super().__init__(*args, **kwargs)

    def watch_vision(self, module, inputs, output):
        if torch.is_grad_enabled():
            tensors = output.to_tuple() if hasattr(output, "to_tuple") else [output]
            found = [tensor.requires_grad for tensor in tensors if isinstance(tensor, torch.Tensor)]
            self.vision_outputs_with_gradient.append(any(found))

    def _generate(self, prompts):
        shared = self._conversations  # its prompts have numbers for images
        self.asked += copy.deepcopy(prompts) if shared is None else [shared.with_images(prompt) for prompt in prompts]
        return super()._generate(prompts)

    def _compute_loss(self, model, inputs):
        loss = super()._compute_loss(model, inputs)
        self.batches.append((inputs, self._latest_logps))
        return loss


def length_reward(completions, **kwargs):
    return [float(len(completion[0]["content"])) for completion in completions]


def train_a_step(folder, dataset, out, train_vision=False, **settings):
    processor = load_processor(folder)
    skeleton = load_skeleton(folder)
    args = ShareGRPOConfig(
        str(out),
        num_generations=4,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        max_completion_length=4,
        max_steps=1,
        learning_rate=1e-2,
        save_strategy="no",
        report_to="none",
        bf16=False,
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = WatchingTrainer(
        folder,
        length_reward,
        args,
        dataset,
        processing_class=processor,
        peft_config=adapter_config(
            ModelConfig(use_peft=True, lora_r=4, **settings), skeleton, train_vision=train_vision
        ),
    )
    if not train_vision:
        stop_gradients_at_vision(trainer.model)
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    base = trainer.model.get_base_model()
    for part in vision_parts(base):
        base.get_submodule(part).register_forward_hook(trainer.watch_vision)
    trainer.train()
    moved = {name for name, parameter in trainer.model.named_parameters() if not torch.equal(parameter, before[name])}
    return trainer, moved


def adapted_modules(trainer):
    names = (name for name, _ in trainer.model.named_parameters() if ".lora_A." in name)
    return {name.split(".lora_A.")[0].removeprefix("base_model.model.") for name in names}


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_trains_the_language_model_of_every_family(family, checkpoint, dataset, tmp_path):
    folder = checkpoint(family)
    if family == "llava_onevision":
        dataset = dataset.select([0, 0])  # TRL does not pass on how many images a row has, which this model asks for
    trainer, moved = train_a_step(folder, dataset, tmp_path)
    language = "text_model" if family in ("idefics3", "smolvlm") else "language_model"
    layer = LAYER[:4] if family == "qwen3_vl_moe" else LAYER
    expected = {f"model.{language}.layers.{index}.{name}" for index in range(2) for name in layer}
    assert adapted_modules(trainer) == expected
    assert moved == {f"base_model.model.{name}.lora_B.default.weight" for name in expected}
    assert trainer.vision_outputs_with_gradient, "the images were looked at"
    assert not any(trainer.vision_outputs_with_gradient), "nothing is computed for a frozen tower's gradients"

    processor = trainer.processing_class
    suppressed = set(trainer.generation_kwargs["suppress_tokens"])
    assert set(processor.tokenizer.convert_tokens_to_ids(sorted(VISION_TOKENS[family]))) <= suppressed

    # Every row was trained with its own image: its log-probabilities are those of the model asked about it alone.
    model = AutoModelForImageTextToText.from_pretrained(folder)
    alone = {}
    for messages in trainer.asked:
        inputs = processor.apply_chat_template(
            [messages], tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
        )
        alone.setdefault(tuple(inputs["input_ids"][0].tolist()), inputs)
    rows = 0
    for batch, logps in trainer.batches:
        for row in range(len(logps)):
            prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
            response = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
            assert not suppressed & set(response.tolist())
            inputs = alone[tuple(prompt.tolist())]
            torch.testing.assert_close(
                logps[row, : len(response)], response_logps(model, inputs, response), atol=2e-4, rtol=0
            )
            negative = {**inputs, "pixel_values": -inputs["pixel_values"]}
            assert (response_logps(model, negative, response) - logps[row, : len(response)]).abs().max() > 2e-3
            rows += 1
    assert rows == 16


@torch.no_grad()
def response_logps(model, inputs, response):
    inputs = dict(inputs)
    size = (1, len(response))
    inputs["input_ids"] = torch.cat([inputs["input_ids"], response[None]], dim=1)
    inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones(size, dtype=torch.long)], dim=1)
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], torch.zeros(size, dtype=torch.long)], dim=1)
    logits = model(**inputs).logits[0, -len(response) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, response[:, None])[:, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_with_train_vision_every_linear_layer_but_the_head_gets_an_adapter(family, checkpoint):
    skeleton = load_skeleton(checkpoint(family))
    assert vision_parts(skeleton) == VISION_PARTS[family]
    linear = {name for name, module in skeleton.named_modules() if isinstance(module, nn.Linear)} - {"lm_head"}
    settings = ModelConfig(use_peft=True, lora_r=4)
    with torch.device("meta"):
        model = get_peft_model(skeleton, adapter_config(settings, skeleton, train_vision=True), low_cpu_mem_usage=True)
    adapted = {
        name.removeprefix("base_model.model.")
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
    assert adapted == linear
    for part in VISION_PARTS[family]:
        bare_parameter = family == "gemma3" and part == "model.multi_modal_projector"
        assert bare_parameter or any(name.startswith(f"{part}.") for name in adapted)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava"])
def test_train_vision_trains_the_tower_and_the_projector(family, checkpoint, dataset, tmp_path):
    trainer, moved = train_a_step(checkpoint(family), dataset, tmp_path, train_vision=True)
    assert any(trainer.vision_outputs_with_gradient)
    for part in VISION_PARTS[family]:
        moved_there = [name for name in moved if name.startswith(f"base_model.model.{part}.")]
        assert moved_there, part
        assert all("lora_B" in name for name in moved_there)


def test_fused_experts_are_named_and_adapted_when_asked(checkpoint, dataset, tmp_path, caplog):
    folder = checkpoint("qwen3_vl_moe")
    experts = ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]
    adapter_config(ModelConfig(use_peft=True), load_skeleton(folder))
    assert ", ".join(experts) in caplog.text
    caplog.clear()
    _, moved = train_a_step(folder, dataset, tmp_path, lora_target_parameters=experts, lora_dropout=0.0)
    assert ", ".join(experts) not in caplog.text
    assert {name.split(".experts.")[0] for name in moved if ".experts." in name} == {
        f"base_model.model.model.language_model.layers.{index}.mlp" for index in range(2)
    }


PIXEL_BOUNDS = {"qwen2_vl": 28, "qwen2_5_vl": 28, "qwen3_vl": 32, "qwen3_vl_moe": 32}


@pytest.mark.parametrize("family", FAMILIES)
def test_pixel_bounds_are_areas_or_refused(family, checkpoint):
    folder = checkpoint(family)
    if family not in PIXEL_BOUNDS:
        with pytest.raises(UserError, match="takes no pixel bounds"):
            load_processor(folder, max_pixels=100 * 100)
        return
    side = PIXEL_BOUNDS[family]  # of the square that becomes one image token
    processor = load_processor(folder, min_pixels=(2 * side) ** 2, max_pixels=(4 * side) ** 2)
    patches = processor.image_processor.merge_size**2
    for size, tokens in ((8, 4), (3 * side, 9), (40 * side, 16)):
        grid = processor.image_processor([PIL.Image.new("RGB", (size, size))], return_tensors="pt")["image_grid_thw"]
        assert grid.prod().item() // patches == tokens
    with pytest.raises(UserError, match=r"min_pixels \(40000\) is more than max_pixels \(30000\)"):
        load_processor(folder, min_pixels=40_000, max_pixels=30_000)


def test_edges_are_not_taken_for_areas(checkpoint):
    """Idefics 2 has a size with the names that Qwen-VL uses, but they mean the sides of the image."""
    processor = load_processor(checkpoint("idefics3"))
    processor.image_processor = Idefics2ImageProcessor()
    assert "shortest_edge" in processor.image_processor.size
    assert "longest_edge" in processor.image_processor.size
    with pytest.raises(UserError, match="takes no pixel bounds"):
        set_pixel_bounds(processor, "idefics2", None, 100 * 100)
