"""Finding a user's reward function."""

import asyncio
import textwrap

import pytest

from r1_sharevl.errors import UserError
from r1_sharevl.rewards import accuracy_reward, format_reward, load_reward

SOURCE = """
from dataclasses import dataclass

NUMBER = 5

def length_reward(completions, **kwargs):
    return [float(len(text)) for text in completions]

async def slow_length_reward(completions, **kwargs):
    return [float(len(text)) for text in completions]

def short_reward(completions, **kwargs):
    return [1.0]

@dataclass
class Scaled:
    factor: float

    def __call__(self, completions, **kwargs):
        return [self.factor * len(text) for text in completions]

doubled = Scaled(2.0)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_rewards.py").write_text(SOURCE)
    (tmp_path / "broken_syntax.py").write_text("def reward(:\n")
    (tmp_path / "broken_import.py").write_text("import no_such_thing\n")
    (tmp_path / "broken_run.py").write_text("raise KeyError('first line\\nsecond line')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("accuracy_reward", accuracy_reward),
        ("accuracy", accuracy_reward),
        ("format_reward", format_reward),
        (" format ", format_reward),
        ("r1_sharevl.rewards.accuracy_reward", accuracy_reward),
    ],
)
def test_built_in_names(name, function):
    assert load_reward(name) is function


@pytest.mark.parametrize("spec", ["my_rewards.py:length_reward", "./my_rewards.py:length_reward"])
def test_a_file(folder, spec):
    reward = load_reward(spec)
    assert reward.__name__ == "length_reward"
    assert reward(completions=["a", "abc"], prompts=["", ""]) == [1.0, 3.0]


def test_a_file_by_its_full_path(folder):
    assert load_reward(f"{folder}/my_rewards.py:length_reward")(["ab"]) == [2.0]


def test_two_files_of_the_same_name(folder):
    other = folder / "other"
    other.mkdir()
    (other / "my_rewards.py").write_text(
        "def length_reward(completions, **kwargs):\n    return [0.5] * len(completions)\n"
    )
    assert load_reward("my_rewards.py:length_reward")(["ab"]) == [2.0]
    assert load_reward("other/my_rewards.py:length_reward")(["ab"]) == [0.5]


def test_a_dotted_path_from_the_current_folder(folder, monkeypatch):
    (folder / "dotted_rewards.py").write_text(SOURCE)
    monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry not in ("", str(folder))])
    assert load_reward("dotted_rewards.length_reward")(["ab"]) == [2.0]
    assert load_reward("dotted_rewards:length_reward")(["ab"]) == [2.0]


def test_an_object_that_can_be_called(folder):
    reward = load_reward("my_rewards.py:doubled")
    assert reward.__name__ == "Scaled"
    assert reward(["ab"]) == [4.0]


def test_an_async_function(folder):
    reward = load_reward("my_rewards.py:slow_length_reward")
    assert asyncio.run(reward(completions=["a", "abc"])) == [1.0, 3.0]


def test_what_it_returns_is_checked(folder):
    with pytest.raises(UserError, match="'short_reward' returned 1 values for 2 completions"):
        load_reward("my_rewards.py:short_reward")(completions=["a", "b"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "acuracy_reward",
            r"'acuracy_reward' is not built in \(did you mean 'accuracy_reward'\?\): use one of accuracy,",
        ),
        ("", "'' is not built in: use one of"),
        ("my_reward.py:length_reward", r"there is no file .*/my_reward.py \(did you mean 'my_rewards.py'\?\)"),
        ("nowhere/my_rewards.py:length_reward", r"there is no file .*/nowhere/my_rewards.py$"),
        ("my_rewards.py", "name the function in the file, as in my_rewards.py:my_reward"),
        ("my_rewards.py:", "there is no function '' in my_rewards.py"),
        (
            "my_rewards.py:lenght_reward",
            r"no function 'lenght_reward' in my_rewards.py \(did you mean 'length_reward'\?\)",
        ),
        ("my_rewards.py:NUMBER", "'NUMBER' in my_rewards.py is a int, not a function"),
        ("broken_syntax.py:reward", r"broken_syntax.py failed to load: SyntaxError: .* \(line 1\)"),
        (
            "broken_import.py:reward",
            "broken_import.py failed to load: ModuleNotFoundError: No module named 'no_such_thing'",
        ),
        ("broken_run.py:reward", "broken_run.py failed to load: KeyError"),
        ("no_such_package.module.reward", "there is no module no_such_package in the current folder or among"),
        ("broken_import.reward", "module broken_import failed to load: ModuleNotFoundError"),
        ("broken_run.reward", "module broken_run failed to load: KeyError"),
        ("r1_sharevl.rewards.no_such_module.reward", "there is no module r1_sharevl.rewards.no_such_module"),
        (
            "r1_sharevl.rewards.acuracy_reward",
            r"no function 'acuracy_reward' in module .*did you mean 'accuracy_reward'",
        ),
        (".rewards.length_reward", "without a leading dot"),
        ("length_reward.", "is not built in"),
    ],
)
def test_mistakes_are_one_line_that_says_what_was_tried(folder, spec, message):
    with pytest.raises(UserError, match=message) as caught:
        load_reward(spec)
    assert "\n" not in str(caught.value)
    assert textwrap.dedent(spec) in str(caught.value)
