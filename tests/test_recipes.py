"""Every recipe makes a valid run or launch, and every command that a header or guide quotes would work."""

import os
import re
import shlex
import subprocess
import warnings
from importlib.resources import files
from pathlib import Path

import pytest
import typer
import yaml
from accelerate.utils import FullyShardedDataParallelPlugin, patch_environment

from r1_sharevl.arguments import parse_run
from r1_sharevl.cli import app
from r1_sharevl.config import ShareGRPOConfig
from r1_sharevl.errors import UserError
from r1_sharevl.recipes import Cards, cards_of, find_launch_recipe, find_recipe, recipe_names

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "configs").glob("*.yaml"))
GPU_RECIPES = [path for path in RECIPES if path.stem != "quickstart"]
LAUNCH_RECIPES = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
SLURM = ROOT / "configs" / "slurm" / "train.sbatch"
GUIDE = ROOT / "docs" / "launching.md"
COMMAND = typer.main.get_command(app)
PAPER = {
    "num_generations": 12,
    "epsilon": 0.2,
    "epsilon_high": 0.3,
    "delta": 3.0,
    "beta": 0.0,
    "loss_type": "bnpo",
    "temperature": 1.0,
    "top_p": 0.99,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "max_completion_length": 2048,
    "min_pixels": 262144,
    "max_pixels": 1048576,
    "lr_scheduler_type": "constant",
}


def stem(path):
    return path.stem


@pytest.fixture
def on_gpus(monkeypatch):
    """A recipe for GPUs asks for bfloat16, which TrainingArguments refuses on some CPUs: look at the settings only."""
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)

    def processes(count):
        monkeypatch.setattr(ShareGRPOConfig, "world_size", count)

    return processes


def header(path):
    return [line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#")]


def quoted_commands(text):
    """The train commands a text quotes, each as (whole command, words of the train command)."""
    text = re.sub(r"\s*\\\n\s*", " ", text)
    found = []
    for line in text.splitlines():
        match = re.search(r"(?:\br1sharevl|-m r1_sharevl\.cli) train((?: +--?[\w-]+(?: (?!--|-m )[\w./\"-]+)*)+)", line)
        if match:
            found.append((line.strip("# "), shlex.split(match[1])))
    return found


def processes_of(line, launch):
    """How many processes a quoted command starts."""
    if "torchrun" in line:
        counts = dict(re.findall(r"--(nnodes|nproc_per_node) (\d+)", line))
        return int(counts.get("nnodes", 1)) * int(counts["nproc_per_node"])
    file = re.search(r"--config_file (\S+)", line)
    if file is None and launch["accelerate"] is None:
        return launch["num_processes"] or 1
    path = ROOT / file[1] if file else find_launch_recipe(launch["accelerate"])
    return launch["num_processes"] or yaml.safe_load(path.read_text())["num_processes"]


def check(line, words, on_gpus):
    train = COMMAND.commands["train"]
    with train.make_context("train", list(words)) as context:
        launch, settings = context.params, context.args
    if launch["config"] in (None, "my.yaml", "..."):
        return
    on_gpus(processes_of(line, launch))
    run, training, model = parse_run(settings, find_recipe(launch["config"]))
    assert run.dataset
    assert model.model_name_or_path
    assert steps_fit(training), line


def steps_fit(training):
    """Each optimizer step consists of whole generations, or each generation of whole optimizer steps."""
    short, long = sorted((training.steps_per_generation, training.gradient_accumulation_steps))
    return long % short == 0


def test_there_is_a_recipe_for_each_card_of_the_plan():
    assert set(recipe_names()) >= {
        "grpo_baseline",
        "quickstart",
        "qwen2_5_vl_32b_full_32x80gb",
        "qwen2_5_vl_3b_lora_24gb",
        "qwen2_5_vl_3b_qlora_12gb",
        "qwen2_5_vl_7b_full_8x80gb",
        "qwen2_5_vl_7b_lora_48gb",
        "qwen2_5_vl_7b_qlora_24gb",
        "qwen3_vl_4b_lora_24gb",
    }
    assert recipe_names("accelerate") == ["ddp", "fsdp2", "multi_node", "single_gpu", "zero2", "zero3"]


@pytest.mark.parametrize("path", RECIPES, ids=stem)
def test_recipe_is_a_valid_run(path, on_gpus):
    cards = cards_of(path.stem) or Cards(1, 0)
    on_gpus(cards.count)
    run, training, model = parse_run([], path)
    assert training.generation_batch_size % training.rows_per_question == 0
    assert steps_fit(training)
    assert Path(training.output_dir).parts[0] == "runs"
    assert run.dataset
    assert model.model_name_or_path


@pytest.mark.parametrize("path", GPU_RECIPES, ids=stem)
def test_recipe_keeps_the_papers_settings(path):
    settings = yaml.safe_load(path.read_text())
    assert {key: settings[key] for key in PAPER} == PAPER
    assert settings["num_variants"] == (1 if path.stem == "grpo_baseline" else 2)
    assert settings["learning_rate"] == (1e-5 if settings.get("use_peft") else 1e-6)
    assert settings["output_dir"] == f"runs/{path.stem}"


@pytest.mark.parametrize("name", ["qwen2_5_vl_7b_full_8x80gb", "qwen2_5_vl_32b_full_32x80gb"])
def test_full_recipes_have_the_papers_batches(name, on_gpus):
    on_gpus(cards_of(name).count)
    _, training, model = parse_run([], find_recipe(name))
    assert training.generation_batch_size == 512 * 2 * 12
    assert training.steps_per_generation // training.gradient_accumulation_steps == 8
    pairs = training.per_device_train_batch_size * training.gradient_accumulation_steps * training.world_size
    assert pairs == 64 * 2 * 12
    assert not model.use_peft


def test_the_baseline_generates_as_many_responses_per_step(on_gpus):
    on_gpus(1)

    def responses(name):
        _, training, _ = parse_run([], find_recipe(name))
        pairs = training.per_device_train_batch_size * training.gradient_accumulation_steps
        return pairs // training.copies_per_response, training.generation_batch_size // training.copies_per_response

    assert responses("grpo_baseline") == responses("qwen2_5_vl_3b_lora_24gb")


@pytest.mark.parametrize("path", [*RECIPES, *LAUNCH_RECIPES, SLURM], ids=stem)
def test_header_is_a_short_manual_whose_commands_work(path, on_gpus):
    lines = header(path)
    for part in ("Launch:", "Override:", "Hardware:", *(["Before:"] if path in RECIPES else [])):
        assert any(line.startswith(part) for line in lines), f"{path.name}: no {part}"
    if path.stem != "quickstart":
        assert "not run on" in " ".join(lines), "nothing is claimed that was not measured"
    text = "\n".join(lines)
    assert set(re.findall(r"(?:r1sharevl|-m r1_sharevl\.cli) (\w+)", text)) <= {*COMMAND.commands, "plan"}
    commands = quoted_commands(text)
    assert commands or path == SLURM
    for line, words in commands:
        check(line, words, on_gpus)
    for config in re.findall(r"configs/[\w./]+\.(?:yaml|sbatch)", path.read_text()):
        assert (ROOT / config).is_file(), f"{path.name} names {config}"


@pytest.mark.parametrize("path", GPU_RECIPES, ids=stem)
def test_what_a_header_says_to_override_works(path, on_gpus):
    cards = cards_of(path.stem) or Cards(1, 24)
    on_gpus(cards.count)
    text = " ".join(header(path))
    override = re.search(r"Override: .*?Hardware:", text)[0]
    sets = [re.findall(r"--[\w]+ [\w.]+", part) for part in re.split(r"; |, or ", override)]
    sets = [flags for flags in sets if flags]
    assert sets
    memory = re.search(r"per_device_train_batch_size (\d+) with steps_per_generation (\d+) and\s+"
                       r"gradient_accumulation_steps (\d+)", text)  # fmt: skip
    if memory:
        names = ("per_device_train_batch_size", "steps_per_generation", "gradient_accumulation_steps")
        sets.append([f"--{name} {value}" for name, value in zip(names, memory.groups(), strict=True)])
    for flags in sets:
        parse_run([word for flag in flags for word in flag.split()], path)


def test_the_commands_of_the_guide_work(on_gpus):
    commands = quoted_commands(GUIDE.read_text())
    assert len(commands) >= 6
    for line, words in commands:
        check(line, words, on_gpus)
    assert set(re.findall(r"`((?:qwen|grpo)\w+)`", GUIDE.read_text())) == {stem(path) for path in GPU_RECIPES}


@pytest.mark.parametrize("path", LAUNCH_RECIPES, ids=stem)
def test_accelerate_builds_the_launch(path):
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    words = ["--config_file", str(path), "--main_process_ip", "127.0.0.1", "--main_process_port", "0", "-m", "x"]
    arguments, recipe, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    assert recipe.num_processes % recipe.num_machines == 0
    assert arguments.mixed_precision == "no", "the run's bf16 decides"
    if path.stem in ("zero2", "zero3"):
        arguments.deepspeed_fields_from_accelerate_config = ""
        _, environment = prepare_deepspeed_cmd_env(arguments)
        assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == path.stem[-1]
    elif path.stem != "single_gpu":
        environment = prepare_multi_gpu_env(arguments)
    if path.stem in ("fsdp2", "multi_node"):
        with patch_environment(**environment), warnings.catch_warnings():
            warnings.simplefilter("error")
            plugin = FullyShardedDataParallelPlugin()
        assert plugin.fsdp_version == 2
        assert plugin.reshard_after_forward is True
        assert plugin.cpu_ram_efficient_loading
        # transformers' Trainer writes no model at the end with any other.
        assert plugin.state_dict_type.name == "FULL_STATE_DICT"


def test_a_name_finds_the_packaged_recipe_and_a_path_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe("qwen2_5_vl_3b_lora_24gb").samefile(ROOT / "configs" / "qwen2_5_vl_3b_lora_24gb.yaml")
    assert find_launch_recipe("zero3").samefile(ROOT / "configs" / "accelerate" / "zero3.yaml")
    (tmp_path / "quickstart").write_text("seed: 1\n")
    assert find_recipe("quickstart") == Path("quickstart")
    for find, name, message in (
        (find_recipe, "qwen", r"^--config qwen: no such file, and no packaged recipe; the recipes are grpo_baseline, "),
        (find_recipe, "qwen.yaml", r"^config file qwen\.yaml does not exist$"),
        (find_recipe, "../quickstart", r"^config file \.\./quickstart does not exist$"),
        (find_launch_recipe, "quickstart.yaml", "does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            find(name)


def test_every_room_and_recipe_is_installed():
    tool = __import__("tomllib").loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent for path in (ROOT / "src" / "r1_sharevl").rglob("__init__.py")}
    rooms = {".".join(folder.relative_to(ROOT / "src").parts) for folder in folders}
    assert set(tool["packages"]) == rooms | {"r1_sharevl.cli", "r1_sharevl.configs"}
    globs = tool["package-data"]["r1_sharevl.configs"]
    packed = {path for glob in globs for path in (ROOT / "configs").glob(glob)}
    assert packed == {*RECIPES, *LAUNCH_RECIPES, SLURM}
    assert Path(str(files("r1_sharevl.configs"))).samefile(ROOT / "configs")


def test_the_slurm_script_resumes_and_is_queued_again(tmp_path, on_gpus):
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    # Stand-ins for SLURM's commands and for the run, which stops by SIGTERM.
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {
        "scontrol": '[ "$1" = show ] && printf "node7\\nnode8\\n" || echo "$@" >> queued',
        "srun": 'SLURM_NODEID=1 "$@"',
        "r1sharevl": 'printf "%s\\n" "$@" > words; exit "$STOPS_WITH"',
    }.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_NNODES": "2"}
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", **job}

    def start(code):
        settings = {"cwd": tmp_path, "env": environment | {"STOPS_WITH": str(code)}}
        assert subprocess.run(["bash", str(SLURM)], check=False, **settings).returncode == code
        return (tmp_path / "words").read_text().split()

    words = start(143)
    assert (tmp_path / "queued").read_text() == "requeue 123456\n"
    assert words[0] == "train"
    with COMMAND.commands["train"].make_context("train", words[1:]) as context:
        launch, settings = context.params, context.args
    assert (launch["num_machines"], launch["num_processes"], launch["machine_rank"]) == (2, 16, 1)
    assert (launch["main_process_ip"], launch["main_process_port"]) == ("node7", 20000 + 123456 % 20000)
    find_launch_recipe(launch["accelerate"])
    on_gpus(16)
    run, _, _ = parse_run([*settings, "--gradient_accumulation_steps", "48"], find_recipe(launch["config"]))
    assert not run.resume
    (tmp_path / "runs" / launch["config"] / "checkpoint-40").mkdir(parents=True)
    assert "--resume" in start(0)
    assert (tmp_path / "queued").read_text() == "requeue 123456\n", "a finished run is not queued again"


def test_readme_names_files_that_exist():
    text = "\n".join(page.read_text() for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target
    for config in re.findall(r"configs/[\w./]+\.(?:yaml|sbatch)", text):
        assert (ROOT / config).is_file(), config
