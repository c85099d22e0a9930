"""How many tokens a prompt has, counted with the model's own processor and chat template."""

from collections.abc import Sequence
from typing import Any

import PIL.Image

from ...prompts import DEFAULT_INSTRUCTION, to_messages, with_images
from ...question_space import TRANSFORMS

Size = tuple[int, int]
"""Width and height of an image in pixels."""

_TURNS = ("rotate_90_clockwise", "rotate_90_counterclockwise")
# Small, wide, tall and large: what any rule about sizes should tell apart.
_PROBES: tuple[list[Size], ...] = ([], [(56, 84)], [(640, 200), (300, 1100)], [(1500, 1400)])


class PromptLength:
    """Counts prompts with a processor, which is loaded at the first count.

    It can be pickled: what travels to a worker process are the settings.
    """

    def __init__(
        self,
        processor: str,
        *,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        instruction: str = DEFAULT_INSTRUCTION,
        trust_remote_code: bool = False,
    ) -> None:
        """Note the settings; nothing is loaded yet.

        Args:
            processor: Folder of a checkpoint, or Hub id.
            min_pixels: Images with fewer pixels are enlarged to it; None takes what is saved with the checkpoint.
            max_pixels: Images with more pixels are shrunk to it; None takes what is saved with the checkpoint.
            instruction: Text appended to every question.
            trust_remote_code: Whether code from the Hub may run.
        """
        self._name = processor
        self._min_pixels = min_pixels
        self._max_pixels = max_pixels
        self._instruction = instruction
        self._trust_remote_code = trust_remote_code
        self._forget()

    def _forget(self) -> None:
        self._processor: Any = None
        self._counts_without_pixels = False
        self._hints: dict[bool, list[tuple[str, bool]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        settings = ("_name", "_min_pixels", "_max_pixels", "_instruction", "_trust_remote_code")
        return {name: self.__dict__[name] for name in settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def load(self) -> None:
        """Load the processor, unless it is there.

        Raises:
            UserError: It cannot be loaded, or takes no pixel bounds.
        """
        if self._processor is not None:
            return
        from ...models.checkpoints import load_processor

        self._processor = load_processor(
            self._name,
            min_pixels=self._min_pixels,
            max_pixels=self._max_pixels,
            trust_remote_code=self._trust_remote_code,
        )
        # Not all processors put one mark per image that grows to so many tokens, and the method is a private one.
        self._counts_without_pixels = hasattr(self._processor, "_get_num_multimodal_tokens") and all(
            self._agrees(sizes) for sizes in _PROBES
        )

    def count(self, text: str, image_sizes: Sequence[Size]) -> int:
        """Count the tokens of a prompt, image tokens included.

        Args:
            text: The question, with or without `<image>` marks.
            image_sizes: Width and height of each image.

        Returns:
            The number of input ids.

        Raises:
            UserError: The processor cannot be loaded, or the marks do not match the images.
        """
        self.load()
        counted = self._count_by_size if self._counts_without_pixels else self._count_by_pixels
        return counted(text, image_sizes)

    def longest(
        self, problem: str, wordings: Sequence[str], image_sizes: Sequence[Size], transforms: bool = True
    ) -> int:
        """Count the longest prompt that training may make of a row.

        Args:
            problem: The question.
            wordings: Its other wordings.
            image_sizes: Width and height of each image.
            transforms: Whether images may be transformed: then the longest hint stands in front of the text, and a
                quarter turn swaps width and height.

        Returns:
            The number of input ids of the longest one.

        Raises:
            UserError: As for `count`.
        """
        self.load()
        turned = [(height, width) for width, height in image_sizes]
        lengths = []
        for text in dict.fromkeys((problem, *wordings)):
            if not (transforms and image_sizes):
                lengths.append(self.count(text, image_sizes))
                continue
            # The same picture with a hint in front is longer than without.
            for hint, is_turn in self._longest_hints(several=len(image_sizes) > 1):
                lengths.append(self.count(f"{hint}\n{text}", turned if is_turn else image_sizes))
        return max(lengths)

    def _longest_hints(self, several: bool) -> list[tuple[str, bool]]:
        """Give the longest hint that comes with a quarter turn and the longest of the others."""
        if several not in self._hints:
            number = 2 if several else 1
            found = []
            for is_turn in (True, False):
                hints = [item.hint_for(number) for name, item in TRANSFORMS.items() if (name in _TURNS) is is_turn]
                found.append((max(hints, key=lambda hint: len(self._processor.tokenizer(hint)["input_ids"])), is_turn))
            self._hints[several] = found
        return self._hints[several]

    def _count_by_size(self, text: str, image_sizes: Sequence[Size]) -> int:
        tokenizer = self._processor.tokenizer
        prompt = self._processor.apply_chat_template(
            to_messages(text, len(image_sizes), self._instruction), add_generation_prompt=True, tokenize=False
        )
        # As `apply_chat_template` does it when it tokenizes.
        has_start = tokenizer.bos_token is not None and prompt.startswith(tokenizer.bos_token)
        ids = tokenizer(prompt, add_special_tokens=not has_start, verbose=False)["input_ids"]
        if not image_sizes:
            return len(ids)
        sizes = [(height, width) for width, height in image_sizes]
        tokens = self._processor._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"]
        # Each image's mark is one token before it grows.
        return len(ids) + sum(tokens) - len(sizes)

    def _count_by_pixels(self, text: str, image_sizes: Sequence[Size]) -> int:
        messages = to_messages(text, len(image_sizes), self._instruction)
        images = [PIL.Image.new("RGB", size, "white") for size in image_sizes]
        inputs = self._processor.apply_chat_template(
            with_images(messages, images), add_generation_prompt=True, tokenize=True, return_dict=True
        )
        return len(inputs["input_ids"][0])

    def _agrees(self, sizes: list[Size]) -> bool:
        text = "How long is AB?\nA. $3$ cm"
        try:
            return self._count_by_size(text, sizes) == self._count_by_pixels(text, sizes)
        except Exception:
            # Whatever a private method raises when it is not what it is in Qwen2.5-VL's processor.
            return False
