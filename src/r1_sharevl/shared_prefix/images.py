"""The images of a generation batch, each run through the processor once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class PreparedImages:
    """Distinct images as the model takes them, in the host's memory. Rows refer to them by their index.

    Attributes:
        pixel_values: Patches of each image, shape `(patches, features)` each.
        grids: Patches of each image (time, height, width), shape `(D, 3)`; the model's `image_grid_thw`.
    """

    pixel_values: list[torch.Tensor]
    grids: torch.Tensor

    def __len__(self) -> int:
        return len(self.pixel_values)

    def fields(
        self, indices: Sequence[int], device: torch.device, *, shown: Sequence[int] | None = None
    ) -> dict[str, torch.Tensor]:
        """Make the model's keyword arguments for some images: none if there are none, which vision towers demand.

        Args:
            indices: Images whose pixels are given, in order.
            device: Where to.
            shown: Images that the prompts show, in order; `indices` where None. See `shared_prefix.vision`.
        """
        if not indices:
            return {}
        pixels = torch.cat([self.pixel_values[index] for index in indices])
        return {
            "pixel_values": pixels.to(device),
            "image_grid_thw": self.grids[list(indices if shown is None else shown)].to(device),
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: tensors only."""
        return {"pixel_values": self.pixel_values, "grids": self.grids}


def no_images() -> PreparedImages:
    """The images of a batch of texts."""
    return PreparedImages([], torch.zeros(0, 3, dtype=torch.long))
