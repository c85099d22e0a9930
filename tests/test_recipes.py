"""Every recipe parses into a valid run, and every command its header quotes names things that exist."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from r1_sharevl.arguments import parse_run
from r1_sharevl.cli import app

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "configs").glob("*.yaml"))
LAUNCH_RECIPES = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))


def header(path):
    return [line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#")]


@pytest.fixture
def on_cpu(monkeypatch):
    """A recipe for GPUs asks for bfloat16, which TrainingArguments refuses on some CPUs: look at the settings only."""
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_a_valid_run(path, on_cpu):
    run, training, model = parse_run([], path)
    assert training.generation_batch_size % training.rows_per_question == 0
    assert Path(training.output_dir).parts[0] == "runs"
    assert run.dataset
    assert model.model_name_or_path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_paper_recipes_keep_the_papers_settings(path, on_cpu):
    settings = yaml.safe_load(path.read_text())
    if path.stem == "quickstart":
        return
    paper = {"num_variants": 2, "num_generations": 12, "epsilon": 0.2, "epsilon_high": 0.3, "delta": 3.0, "beta": 0.0}
    paper |= {"loss_type": "bnpo", "temperature": 1.0, "top_p": 0.99, "weight_decay": 0.01, "max_grad_norm": 1.0}
    paper |= {
        "max_completion_length": 2048,
        "min_pixels": 262144,
        "max_pixels": 1048576,
        "lr_scheduler_type": "constant",
    }
    assert {key: settings[key] for key in paper} == paper


@pytest.mark.parametrize("path", [*RECIPES, *LAUNCH_RECIPES], ids=lambda path: path.stem)
def test_header_is_a_short_manual_whose_commands_exist(path, on_cpu):
    lines = header(path)
    for part in ("Launch:", "Override:"):
        assert any(line.startswith(part) for line in lines), f"{path.name}: no {part}"
    commands = {command.name for command in app.registered_commands}
    quoted = re.findall(r"(?:r1sharevl|-m r1_sharevl\.cli) (\w+)", "\n".join(lines))
    assert set(quoted) <= commands
    for config in re.findall(r"configs/[\w./]+\.yaml", path.read_text()):
        assert (ROOT / config).is_file(), f"{path.name} names {config}"
    for line in lines:
        launch = re.search(r"r1sharevl train --config (configs/\S+)((?: --[\w-]+ [\w./]+)*)$", line)
        if launch and path in RECIPES:
            parse_run(shlex.split(launch[2]), ROOT / launch[1])


@pytest.mark.parametrize("path", LAUNCH_RECIPES, ids=lambda path: path.stem)
def test_accelerate_reads_the_launch_recipe(path):
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(path)).num_processes >= 1


def test_readme_names_files_that_exist():
    text = "\n".join(page.read_text() for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target
    for config in re.findall(r"configs/[\w./]+\.yaml", text):
        assert (ROOT / config).is_file(), config
    assert isinstance(app, typer.Typer)
