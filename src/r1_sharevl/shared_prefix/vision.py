"""Lets the vision tower see each distinct image once, however many prompts show it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from .images import PreparedImages


@contextmanager
def shown_images(
    tower: torch.nn.Module | None, images: PreparedImages, shown: Sequence[int], device: torch.device
) -> Iterator[dict[str, Any]]:
    """Give the model's keyword arguments for the images that prompts show; within the context the tower sees each once.

    Args:
        tower: See `images_once`; may be None where no image is shown.
        images: The distinct images.
        shown: Index of the image at each place, in order.
        device: Of the pass.
    """
    if not shown:
        yield {}
        return
    assert tower is not None  # noqa: S101
    distinct = sorted(set(shown))
    with images_once(tower, images.grids[distinct], [distinct.index(number) for number in shown]):
        yield images.fields(distinct, device, shown=shown)


@contextmanager
def images_once(tower: torch.nn.Module, grids: torch.Tensor, shown: Sequence[int]) -> Iterator[None]:
    """Repeat the features of distinct images in the order in which prompts show them, behind the vision tower.

    The model is called with the pixels of the distinct images and with `grids[shown]`: it counts the tokens of all
    that are shown. The tower itself gets the distinct images' grids. Hooks do this for the time of the context; the
    gradients of an image's features add up.

    Args:
        tower: A Qwen vision tower: takes `grid_thw`, gives `pooler_output` and perhaps `deepstack_features`.
        grids: Patches of each distinct image (time, height, width), shape `(D, 3)`.
        shown: Index of the distinct image at each place, in order.
    """
    if list(shown) == list(range(len(grids))):
        yield
        return
    side: Any = tower.spatial_merge_size  # of the square of patches that becomes a token
    lengths = (grids.prod(-1) // side**2).tolist()

    def repeat(features: torch.Tensor) -> torch.Tensor:
        pieces = features.split(lengths)
        return torch.cat([pieces[index] for index in shown])

    def take_distinct(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        return args, {**kwargs, "grid_thw": grids.to(kwargs["grid_thw"].device)}

    def give_all(_: Any, __: tuple[Any, ...], output: Any) -> Any:
        output.pooler_output = repeat(output.pooler_output)
        if getattr(output, "deepstack_features", None) is not None:
            output.deepstack_features = [repeat(features) for features in output.deepstack_features]
        return output

    hooks = [
        tower.register_forward_pre_hook(take_distinct, with_kwargs=True),
        tower.register_forward_hook(give_all),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def blank_image(tower: torch.nn.Module, embeddings: torch.nn.Module) -> Iterator[None]:
    """Let the vision tower run once in a pass without images, on a blank one that changes no result.

    Processes that hold parts of the tower each (FSDP2) must run it together, and DDP waits for the gradients of all
    parameters: a process whose rows are texts goes along. Its gradients are zeros.

    Args:
        tower: A Qwen vision tower.
        embeddings: The model's input embeddings. The tower runs right behind them, as it does in a pass with images.
    """
    config: Any = tower.config
    side = int(config.spatial_merge_size)
    width = config.in_channels * config.temporal_patch_size * config.patch_size**2

    def run_tower(_: Any, __: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        hook.remove()  # tokens that are generated later come without images on all processes
        pixels = torch.zeros(side**2, width, device=output.device)
        found = tower(pixels, grid_thw=torch.tensor([[1, side, side]], device=output.device))
        features = [found.pooler_output, *(getattr(found, "deepstack_features", None) or [])]
        nothing = torch.stack([feature.sum() for feature in features]).sum() * 0
        return output + nothing.to(output.dtype)

    hook = embeddings.register_forward_hook(run_tower)
    try:
        yield
    finally:
        hook.remove()
