"""Settings from YAML and flags; every mistake is one line that says where and what to do."""

import pytest
import yaml

from r1_sharevl import UserError
from r1_sharevl.arguments import parse_run, settings_of

NEEDED = {
    "dataset": "data",
    "model_name_or_path": "model",
    "output_dir": "out",
    "per_device_train_batch_size": 16,
    "use_cpu": True,
    "bf16": False,
}


@pytest.fixture
def write(tmp_path):
    def write_config(**settings):
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump({**NEEDED, **settings}))
        return path

    return write_config


def test_flags_win_over_the_file_which_wins_over_the_defaults(write):
    run, training, model = parse_run(
        ["--num_variants", "1", "--max-pixels", "5000", "--use_peft"],
        write(num_variants=4, learning_rate=3e-4, lora_r=8, report_to=["tensorboard"]),
    )
    assert training.num_variants == 1
    assert (training.learning_rate, training.report_to) == (3e-4, ["tensorboard"])
    assert (run.max_pixels, model.use_peft, model.lora_r) == (5000, True, 8)


def test_a_flag_wins_over_the_other_name_of_the_same_size(write):
    for flag in ("--generation_batch_size", "--generation-batch-size"):
        _, training, _ = parse_run([flag, "96"], write(num_generations=4, steps_per_generation=2))
        assert (training.generation_batch_size, training.steps_per_generation) == (96, 6)
    _, training, _ = parse_run(["--steps_per_generation=3"], write(num_generations=4, generation_batch_size=96))
    assert (training.generation_batch_size, training.steps_per_generation) == (48, 3)
    both = {"generation_batch_size": 32, "steps_per_generation": 2}
    with pytest.raises(UserError, match="can not be both"):  # no flag says which is meant
        parse_run([], write(**both))


def test_the_releases_rewards_are_the_default(write):
    run, training, _ = parse_run([], write())
    assert run.reward_funcs == ["accuracy_reward", "format_reward"]
    assert training.reward_weights == [0.9, 0.1]
    assert parse_run([], write(reward_funcs=["accuracy_reward"]))[1].reward_weights is None
    assert parse_run(["--reward_weights", "1", "2"], write())[1].reward_weights == [1.0, 2.0]


def test_settings_written_to_the_run_folder_describe_the_same_run(tmp_path, write):
    first = parse_run(["--image_transforms", "rotate_180", "--seed", "7"], write(epsilon_high=0.3, loss_type="bnpo"))
    settings = settings_of(*first)
    assert settings["image_transforms"] == ["rotate_180"]
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(settings))
    assert settings_of(*parse_run([], again)) == settings


@pytest.mark.parametrize(
    ("line", "flags", "value"),
    [
        ("", [], "auto"),
        ("shared_prefix: auto", [], "auto"),
        ("shared_prefix: on", [], "on"),  # a boolean in YAML
        ("shared_prefix: off", [], "off"),
        ("shared_prefix: 'off'", [], "off"),
        ("shared_prefix: false", [], "off"),
        ("shared_prefix: off", ["--shared_prefix", "on"], "on"),
        ("", ["--shared-prefix=off"], "off"),
    ],
)
def test_on_and_off_are_what_they_say(tmp_path, write, line, flags, value):
    config = write(num_generations=4)
    config.write_text(f"{config.read_text()}{line}\n")
    parsed = parse_run(flags, config)
    assert parsed[1].shared_prefix == value
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(settings_of(*parsed)))
    assert parse_run([], again)[1].shared_prefix == value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_varients": 2}, "run.yaml: unknown setting 'num_varients': did you mean num_variants"),
        ({"zzzzzz": 2}, "unknown setting 'zzzzzz': .*--list-options"),
        ({"num_variants": "two"}, "num_variants.*invalid int value: 'two'"),
        ({"num_variants": 2.5}, "run.yaml: num_variants is 2.5: give a whole number"),
        ({"num_variants": [2]}, "give a whole number"),
        ({"learning_rate": True}, "learning_rate is True: give a number"),
        ({"share_trajectories": 3}, "share_trajectories is 3: give true or false"),
        ({"advantage_levels": "global"}, r"give a list"),
        ({"advantage_levels": ["globe"]}, "give 'global', 'local' or both"),
        ({"dataset": 5}, "dataset is 5: give text"),
        ({"dataset": True}, "dataset is True: give text"),
        ({"shared_prefix": 1}, "shared_prefix is 1: choose from auto, on, off"),
        ({"shared_prefix": "yes"}, "shared_prefix is 'yes': choose from auto, on, off"),
        ({"per_device_train_batch_size": 5}, "set generation_batch_size to 80"),
        ({"reward_weights": [1.0]}, "reward_weights has 1 values for 2 reward_funcs"),
        ({"model_name_or_path": None}, "no model is named"),
        ({"loss_type": ["a"]}, "loss_type is"),
    ],
)
def test_a_mistake_in_the_file_names_the_setting(write, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_run([], write(**settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_varients", "2"], "unknown option --num_varients: did you mean --num_variants"),
        (["--num_var", "2"], "unknown option --num_var"),  # no silent abbreviations
        (["--num_variants", "x"], "invalid int value: 'x'"),
        (["stray"], "unexpected argument 'stray'"),
        (["--save_strategy", "sometimes"], "sometimes"),
        (["--shared_prefix", "yes"], "^shared_prefix is 'yes': choose from auto, on, off$"),
    ],
)
def test_a_mistake_in_a_flag_names_the_flag(write, flags, message):
    with pytest.raises(UserError, match=message):
        parse_run(flags, write())


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [1", "not valid YAML"), ("- a\n- b", "holds list, not a mapping"), ("", "holds NoneType"), ("\xff", None)],
)
def test_a_broken_file(tmp_path, content, message):
    path = tmp_path / "run.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=message or "not valid YAML") as caught:
        parse_run([], path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_missing_setting(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml does not exist"):
        parse_run([], tmp_path / "nowhere.yaml")
    with pytest.raises(UserError, match="required: --dataset"):
        parse_run(["--model_name_or_path", "m"])


@pytest.mark.parametrize("name", ["sample_responses", "collapse_patience", "collapse_entropy"])
def test_numbers_that_switch_something_off_are_not_negative(name, write):
    with pytest.raises(UserError, match=f"{name} is -3.*: give 0"):
        parse_run([f"--{name}=-3"], write(num_generations=4))
