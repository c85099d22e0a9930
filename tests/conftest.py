"""Fixtures every room's tests share: the tiny Qwen2.5-VL, its processor, and rows of the built-in set."""

import os
import signal

# Before any Hugging Face library is imported: nothing may be looked up on the Hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # see cli/__init__.py

import pytest
from hypothesis import settings

# A shell's background jobs ignore it, and hand that on to what they start: tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, so that a failure is the change's; and nothing is timed in a test.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def processor():
    from r1_sharevl.models.tiny import build_tiny_processor

    return build_tiny_processor()


@pytest.fixture
def tiny_model(processor):
    """A fresh untrained model; small enough that building it costs less than copying would save."""
    from r1_sharevl.models.tiny import build_tiny_model

    return build_tiny_model(processor)


@pytest.fixture(scope="session")
def tiny_checkpoint(processor, tmp_path_factory):
    """Folder of the untrained tiny model with its processor, for whatever loads by path."""
    from r1_sharevl.models.tiny import build_tiny_model

    folder = tmp_path_factory.mktemp("tiny")
    build_tiny_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
