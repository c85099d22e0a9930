"""Full fine-tuning, LoRA and QLoRA of the tiny Qwen2.5-VL, from settings to saved weights, on the CPU for real."""

import json
import sys

import pytest
import torch
from datasets import Dataset
from peft import PeftModel, inject_adapter_in_model
from PIL import Image
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, BitsAndBytesConfig, Qwen2Config
from trl import ModelConfig

from r1_sharevl.arguments import parse_run
from r1_sharevl.data.schema import prepared_features
from r1_sharevl.data.synthetic import synthetic_rows
from r1_sharevl.errors import UserError
from r1_sharevl.models.adapters import adapter_config
from r1_sharevl.models.parameters import parameter_counts
from r1_sharevl.models.quantization import quantization_config
from r1_sharevl.models.skeleton import load_skeleton
from r1_sharevl.models.vision import freeze_vision, stop_gradients_at_vision, vision_parts
from r1_sharevl.training import run_training


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    (folder / "data").mkdir()
    rows = Dataset.from_list(
        list(synthetic_rows("train", 8, seed=0)), features=prepared_features({"question_type": "string"})
    )
    rows.to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    (folder / "length.py").write_text(
        "def length(completions, **kwargs):\n    return [float(len(c[0]['content'])) for c in completions]\n"
    )
    return folder


@pytest.fixture
def settings(data, tiny_checkpoint, tmp_path):
    """Parse the settings of a short run, with the flags a test adds."""

    def parse(*flags):
        words = {
            "dataset": data,
            "model_name_or_path": tiny_checkpoint,
            "output_dir": tmp_path / "run",
            "reward_funcs": f"{data / 'length.py'}:length",
            "num_generations": 4,
            "per_device_train_batch_size": 8,
            "max_completion_length": 4,
            "max_steps": 2,
            "learning_rate": 1e-2,
            "save_strategy": "no",
            "use_cpu": "true",
            "report_to": "none",
            "disable_tqdm": "true",
        }
        return parse_run([word for key, value in words.items() for word in (f"--{key}", str(value))] + list(flags))

    return parse


def saved_tensors(folder, name):
    with safe_open(folder / name, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)


def logits(model, processor):
    inputs = processor(text=["What colour is the square?"], return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits


def test_qlora_trains_adapters_on_a_4_bit_base_and_they_load_again(settings, tiny_checkpoint, processor, tmp_path):
    run, args, model_args = settings("--use_peft", "--load_in_4bit", "--lora_r", "4")
    skeleton = load_skeleton(str(tiny_checkpoint))
    quantization = quantization_config(model_args, skeleton)
    assert (quantization.bnb_4bit_quant_type, quantization.bnb_4bit_use_double_quant) == ("nf4", True)
    assert quantization.bnb_4bit_compute_dtype == torch.bfloat16
    run_training(run, args, model_args)

    base = AutoModelForImageTextToText.from_pretrained(
        tiny_checkpoint, quantization_config=quantization, dtype=torch.bfloat16
    )
    packed = {name for name, parameter in base.named_parameters() if type(parameter).__name__ == "Params4bit"}
    assert {name.rsplit(".", 2)[1] for name in packed} == {
        *(f"{name}_proj" for name in "qkvo"),
        *("gate_proj", "up_proj", "down_proj"),
    }
    assert all(name.startswith("model.language_model.layers.") for name in packed), "tower and head are not packed"
    before = {name: parameter.detach().clone() for name, parameter in base.named_parameters()}
    alone = logits(base, processor)

    model = PeftModel.from_pretrained(base, tmp_path / "run")
    after = {name.replace(".base_layer", ""): value for name, value in model.get_base_model().named_parameters()}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    adapters = saved_tensors(tmp_path / "run", "adapter_model.safetensors")
    assert len(adapters) == 2 * len(packed)
    assert {value.dtype for value in adapters.values()} == {torch.float32}, "small updates are lost in bfloat16"
    assert all(value.abs().sum() > 0 for name, value in adapters.items() if "lora_B" in name), "they start at zero"
    assert not torch.equal(logits(model, processor), alone)


@pytest.mark.parametrize(("lora", "train_vision"), [(False, None), (False, False), (True, None), (True, True)], ids=str)
def test_what_is_trained_with_gradient_checkpointing(lora, train_vision, settings, tiny_checkpoint, tmp_path, caplog):
    flags = ["--bf16", "false", "--max_steps", "1", *(["--use_peft"] if lora else [])]
    run, args, model_args = settings(
        *flags, *(["--train_vision", str(train_vision)] if train_vision is not None else [])
    )
    assert args.gradient_checkpointing
    caplog.set_level("INFO")
    run_training(run, args, model_args)
    assert "Attention: sdpa" in caplog.text
    assert "Trains " in caplog.text
    out = tmp_path / "run"
    if lora:
        tensors = saved_tensors(out, "adapter_model.safetensors")
        trained = {name for name, value in tensors.items() if "lora_B" in name and value.abs().sum() > 0}
        saved = json.loads((out / "adapter_config.json").read_text())
        assert saved["exclude_modules"] == (None if train_vision else r"(model\.visual)(\..+)?")
    else:
        start = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint).state_dict()
        end = AutoModelForImageTextToText.from_pretrained(out).state_dict()
        trained = {name for name, value in start.items() if not torch.equal(value, end[name])}
    vision = {name for name in trained if ".visual." in name}
    assert bool(vision) is (train_vision is True if lora else train_vision is None)
    assert trained - vision


def test_stopping_gradients_at_the_tower_leaves_those_of_the_language_model_alone(tiny_model, processor):
    messages = [{"role": "user", "content": [{"type": "image", "image": Image.new("RGB", (112, 112), "red")}]}]
    inputs = processor.apply_chat_template([messages], tokenize=True, return_dict=True, return_tensors="pt")
    freeze_vision(tiny_model)
    tiny_model.train()
    gradients, looked_back = [], []
    tiny_model.model.visual.blocks[0].register_full_backward_hook(lambda *_: looked_back.append(True))
    for stop in (False, True):
        if stop:
            stop_gradients_at_vision(tiny_model)
        tiny_model.gradient_checkpointing_enable({"use_reentrant": False})  # as TRL does after every generation
        tiny_model.zero_grad()
        looked_back.clear()
        tiny_model(**inputs, labels=inputs["input_ids"]).loss.backward()
        gradients.append({n: p.grad.clone() for n, p in tiny_model.named_parameters() if p.grad is not None})
        assert bool(looked_back) is not stop
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])
    tiny_model.gradient_checkpointing_disable()
    tiny_model.disable_input_require_grads()
    assert not tiny_model.get_input_embeddings()._forward_hooks


def test_named_targets_win_but_not_in_a_frozen_tower(tiny_checkpoint, tiny_model, settings):
    skeleton = load_skeleton(str(tiny_checkpoint))
    for train_vision, where in ((None, {"language_model"}), (True, {"language_model", "visual"})):
        config = adapter_config(
            ModelConfig(use_peft=True, lora_target_modules=["up_proj"]), skeleton, train_vision=train_vision
        )
        with torch.device("meta"):
            model = inject_adapter_in_model(config, load_skeleton(str(tiny_checkpoint)), low_cpu_mem_usage=True)
        names = [name for name, _ in model.named_parameters() if "lora_A" in name]
        assert {name.split(".")[1] for name in names} == where
        assert all(".up_proj." in name for name in names)
    for target, message in (("qkv", "qkv names layers of the vision tower only"), ("wq", "wq: the model has no such")):
        run, args, model_args = settings("--use_peft", "--lora_target_modules", target)
        with pytest.raises(UserError, match=message):
            run_training(run, args, model_args)


def test_parameter_counts(tiny_model, tiny_checkpoint):
    every = sum(parameter.numel() for parameter in tiny_model.parameters())
    assert parameter_counts(tiny_model) == (every, every)
    tower = sum(parameter.numel() for parameter in tiny_model.model.visual.parameters())
    freeze_vision(tiny_model)
    assert parameter_counts(tiny_model) == (every - tower, every)
    tiny_model.requires_grad_(False)
    with pytest.raises(UserError, match=f"none of the model's {every:,} parameters is trainable"):
        parameter_counts(tiny_model)
    packed = AutoModelForImageTextToText.from_pretrained(
        tiny_checkpoint, quantization_config=BitsAndBytesConfig(load_in_4bit=True), dtype=torch.bfloat16
    )
    packed.lm_head.requires_grad_(True)
    assert parameter_counts(packed).total == every, "a weight packed into half a byte is a weight"


def test_a_text_model_has_no_vision_parts(processor):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = Qwen2Config(vocab_size=50, num_hidden_layers=1, **sizes)
    with torch.device("meta"):
        assert vision_parts(AutoModelForCausalLM.from_config(config)) == ()


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ((), "float32"),
        (("--bf16", "true"), "float32"),
        (("--use_peft",), "bfloat16"),
        (("--use_peft", "--bf16", "false"), "float32"),
        (("--use_peft", "--dtype", "float32"), "float32"),
        (("--use_peft", "--load_in_4bit", "--bf16", "false"), "bfloat16"),
        (("--use_peft", "--load_in_4bit", "--dtype", "float32"), "float32"),
        (("--dtype", "auto"), "auto"),
    ],
)
def test_weights_are_float32_only_where_that_is_of_use(settings, flags, dtype):
    assert settings(*flags)[2].dtype == dtype


def test_train_vision_needs_no_value_and_takes_one(settings):
    assert settings()[0].train_vision is None
    assert settings("--train_vision")[0].train_vision is True
    assert settings("--train-vision", "--use_peft")[0].train_vision is True
    assert settings("--train_vision", "false")[0].train_vision is False


def test_quantised_weights_without_adapters_or_bitsandbytes_are_one_line(settings, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"^load_in_4bit without use_peft: .* add --use_peft for QLoRA$"):
        settings("--load_in_4bit")
    with pytest.raises(UserError, match=r"^load_in_8bit without use_peft"):
        settings("--load_in_8bit")
    saved = load_skeleton(str(settings()[2].model_name_or_path))
    saved.config.quantization_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    with pytest.raises(UserError, match="its weights are quantised and cannot be trained"):
        quantization_config(ModelConfig(model_name_or_path="org/model-4bit"), saved)
    assert quantization_config(ModelConfig(use_peft=True), saved) is None

    from transformers.utils.import_utils import is_bitsandbytes_available

    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)  # as where it is not installed
    for cached in (is_bitsandbytes_available, sys.modules["transformers.utils.import_utils"]._is_package_available):
        getattr(cached, "cache_clear", lambda: None)()
    try:
        with pytest.raises(UserError, match=r'pip install "r1-sharevl\[quantization\]"'):
            settings("--load_in_4bit", "--use_peft")
    finally:
        monkeypatch.undo()
        for cached in (is_bitsandbytes_available, sys.modules["transformers.utils.import_utils"]._is_package_available):
            getattr(cached, "cache_clear", lambda: None)()
