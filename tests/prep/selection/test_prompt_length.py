import pickle
import random
import subprocess
import sys

import PIL.Image
import pytest
from transformers import PixtralImageProcessor, PixtralProcessor

from r1_sharevl.errors import UserError
from r1_sharevl.models.tiny import build_tiny_processor
from r1_sharevl.prep.selection.prompt_length import PromptLength
from r1_sharevl.prompts import DEFAULT_INSTRUCTION, to_messages, with_images
from r1_sharevl.question_space import TRANSFORMS, QuestionSpace


@pytest.fixture(scope="module")
def folder(processor, tmp_path_factory):
    place = tmp_path_factory.mktemp("processor")
    processor.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def pixtral_folder(tmp_path_factory):
    """Another family: its images have one token more per row of patches, so that a turned image has another number."""
    tokenizer = build_tiny_processor().tokenizer
    tokenizer.add_special_tokens({"extra_special_tokens": ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]})
    template = (
        "{%- for part in messages[0]['content'] -%}"
        "{%- if part['type'] == 'image' -%}[IMG]{%- else -%}{{ part['text'] }}{%- endif -%}{%- endfor -%}"
    )
    images = PixtralImageProcessor(size={"longest_edge": 256}, patch_size={"height": 16, "width": 16})
    place = tmp_path_factory.mktemp("pixtral")
    PixtralProcessor(images, tokenizer, patch_size=16, chat_template=template).save_pretrained(place)
    return place


def by_processor(processor, text, images, instruction=DEFAULT_INSTRUCTION):
    inputs = processor.apply_chat_template(
        with_images(to_messages(text, len(images), instruction), images),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
    )
    return len(inputs["input_ids"][0])


def pictures(rng, count):
    sizes = [(rng.randint(20, 700), rng.randint(20, 700)) for _ in range(count)]
    return [PIL.Image.effect_noise(size, 50).convert("RGB") for size in sizes]


TEXTS = ["Find x.", "Wie groß ist der Winkel α? 角の大きさ 🔺\n\nA. $30^\\circ$\nB. 45°", " " * 20 + "x" * 300]


@pytest.mark.parametrize("bounds", [(None, None), (None, 28 * 28 * 200), (28 * 28 * 9, 28 * 28 * 300)])
def test_counts_are_what_the_processor_makes(folder, bounds):
    length = PromptLength(str(folder), min_pixels=bounds[0], max_pixels=bounds[1])
    length.load()
    real = length._processor
    assert length._counts_without_pixels
    rng = random.Random(0)
    seen = set()
    for number in range(16):
        images = pictures(rng, number % 4)
        for text in TEXTS:
            counted = length.count(text, [image.size for image in images])
            assert counted == by_processor(real, text, images)
            seen.add(counted)
    assert len(seen) > 10


def test_pixel_bounds_count(folder):
    counts = [
        PromptLength(str(folder), **bounds).count("Find x.", [(300, 300)])
        for bounds in (
            {"max_pixels": 56 * 56},
            {},
            {"max_pixels": 28 * 28 * 100},
            {"min_pixels": 28 * 28 * 300, "max_pixels": 28 * 28 * 400},
        )
    ]
    assert counts == sorted(set(counts))
    small = PromptLength(str(folder), min_pixels=28 * 28 * 12).count("Find x.", [(30, 30)])
    assert small > PromptLength(str(folder)).count("Find x.", [(30, 30)])


def test_another_family_of_processors(pixtral_folder):
    length = PromptLength(str(pixtral_folder))
    length.load()
    assert length._counts_without_pixels
    rng = random.Random(3)
    for count in (0, 1, 2):
        images = pictures(rng, count)
        sizes = [image.size for image in images]
        assert length.count("Find x.", sizes) == by_processor(length._processor, "Find x.", images)
    assert length.count("Find x.", [(256, 16)]) < length.count("Find x.", [(16, 256)])
    for size in ((256, 16), (16, 256)):
        longest = length.longest("Find x.", ["x is how much?"], [size])
        assert longest == longest_drawn(length, "Find x.", ["x is how much?"], [PIL.Image.new("RGB", size)])


def longest_drawn(length, problem, variants, images):
    """The longest of all the prompts that training can draw."""
    row = {"id": "a", "problem": problem, "variants": variants, "images": images}
    drawn = QuestionSpace((1 + len(variants)) * (1 + len(TRANSFORMS))).draw(row, step=0)
    return max(length.count(prompt.text, [image.size for image in prompt.images]) for prompt in drawn)


def test_marks_and_the_instruction_count(folder, processor):
    images = pictures(random.Random(1), 2)
    sizes = [image.size for image in images]
    text = "Compare <image> with <image> now."
    for instruction in (DEFAULT_INSTRUCTION, "", "Just say it."):
        length = PromptLength(str(folder), instruction=instruction)
        assert length.count(text, sizes) == by_processor(processor, text, images, instruction)
    with pytest.raises(UserError, match="2 <image> marks but 1 images"):
        PromptLength(str(folder)).count(text, sizes[:1])


def test_a_processor_that_counts_otherwise_is_asked_with_pictures(folder, processor, monkeypatch):
    """As one would be whose images have more tokens than it says: with tokens between rows, for example."""
    kind = type(processor)
    honest = kind._get_num_multimodal_tokens

    def one_less(self, image_sizes=None, **kwargs):
        told = honest(self, image_sizes, **kwargs)
        told["num_image_tokens"] = [count - 1 for count in told["num_image_tokens"]]
        return told

    def fails(self, **kwargs):
        raise NotImplementedError

    images = pictures(random.Random(2), 2)
    for dishonest in (one_less, fails):
        monkeypatch.setattr(kind, "_get_num_multimodal_tokens", dishonest)
        length = PromptLength(str(folder))
        assert length.count("Find x.", [image.size for image in images]) == by_processor(processor, "Find x.", images)
        assert not length._counts_without_pixels
    monkeypatch.delattr(kind, "_get_num_multimodal_tokens")
    assert PromptLength(str(folder)).count("Find x.", [(50, 60)]) == by_processor(
        processor, "Find x.", [PIL.Image.new("RGB", (50, 60))]
    )


@pytest.mark.parametrize("size", [(300, 80), (80, 300), (112, 112)])
@pytest.mark.parametrize("count", [1, 2])
def test_the_longest_prompt_is_the_longest_that_training_draws(folder, size, count):
    length = PromptLength(str(folder), max_pixels=28 * 28 * 40)
    problem, variants = "<image>" * count + "Find x.", ["What is the value of x?"]
    longest = length.longest(problem, variants, [size] * count)
    assert longest == longest_drawn(length, problem, variants, [PIL.Image.new("RGB", size)] * count)
    plain = length.longest(problem, variants, [size] * count, transforms=False)
    assert plain == max(length.count(text, [size] * count) for text in (problem, *variants)) < longest


def test_rows_without_images_have_no_hints(folder):
    length = PromptLength(str(folder))
    assert length.longest("Find x.", ["What is the value of x?"], []) == length.count("What is the value of x?", [])
    assert length.longest("What is the value of x?", [], []) == length.count("What is the value of x?", [])


def test_settings_travel_and_the_processor_stays(folder):
    length = PromptLength(str(folder), max_pixels=28 * 28 * 20, instruction="Say it.")
    expected = length.count("Find x.", [(900, 400)])
    data = pickle.dumps(length)
    assert len(data) < 500
    assert pickle.loads(data).count("Find x.", [(900, 400)]) == expected  # noqa: S301 - our own
    code = (
        "import pickle, sys\n"
        "length = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "assert 'transformers' not in sys.modules\n"
        "print(length.count('Find x.', [(900, 400)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, data.hex()], capture_output=True, text=True, check=True)
    assert done.stdout == f"{expected}\n"


def test_a_processor_that_is_not_there(tmp_path):
    length = PromptLength(str(tmp_path))
    with pytest.raises(UserError, match="its processor cannot be loaded"):
        length.load()
