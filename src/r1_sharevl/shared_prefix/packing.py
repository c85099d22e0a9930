"""Packs (prompt, response) rows so that each distinct prompt stands there once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    PositionsOf = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]
    """From a prompt's ids, shape `(P,)`, and the indices of its images to its positions, shape `(axes, P)`."""

IGNORED = -100
"""Label of a position whose next token is not scored."""


@dataclass(frozen=True)
class PromptSpan:
    """Where a prompt and its responses stand in a packed sequence.

    Attributes:
        start: Index of the prompt's first token.
        prefix: Number of prompt tokens that all responses share: all but the last. Where no response has a token: all,
            so that no pass over rows is empty.
        responses: Length of each response's segment: the prompt's last token and the response but for its own last.
    """

    start: int
    prefix: int
    responses: tuple[int, ...]

    @property
    def stop(self) -> int:
        """Index behind the last token."""
        return self.start + self.prefix + sum(self.responses)


@dataclass(frozen=True)
class PackedRows:
    """Rows as one sequence of T tokens: for each prompt `[prefix, (last, c_1 …), …, (last, c_1 …)]`.

    The prompt's last token stands in front of every response, because its hidden state cannot carry several labels. It
    is one of text, as behind every chat template: models count the tokens of images. A response's last token is a label
    only: nothing attends to it.

    Attributes:
        tokens: Shape `(T,)`.
        labels: The next token where it is scored, else -100, shape `(T,)`.
        positions: Shape `(axes, T)`.
        spans: One per distinct prompt, in order.
        first_rows: The first row of each distinct prompt.
        scored: Indices of the scored positions, shape `(N,)`.
        rows, columns: Row and column of `(B, C)` that each scored position belongs to, shape `(N,)`.
        shape: `(B, C)` of the completions.
    """

    tokens: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    spans: tuple[PromptSpan, ...]
    first_rows: tuple[int, ...]
    scored: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    shape: tuple[int, int]

    def scatter(self, values: torch.Tensor) -> torch.Tensor:
        """Put values of the packed sequence, shape `(T,)`, back into rows, shape `(B, C)`; 0 where none is scored."""
        places = (self.rows.to(values.device), self.columns.to(values.device))
        return values.new_zeros(self.shape).index_put(places, values[self.scored.to(values.device)])


def prompt_numbers(input_ids: torch.Tensor, attention_mask: torch.Tensor, image_index: torch.Tensor) -> list[int]:
    """Number the prompts of rows; rows of equal tokens and images have the same prompt.

    Args:
        input_ids: Prompts, padded, shape `(B, P)`.
        attention_mask: 1 where a token stands, shape `(B, P)`.
        image_index: Index of each image of a row, padded by -1, shape `(B, I)`.

    Returns:
        Number of each row's prompt, in order of first appearance.
    """
    tokens = torch.where(attention_mask.bool(), input_ids, -1)
    keys = torch.cat([tokens.cpu(), image_index.cpu()], dim=1).tolist()
    numbers: dict[tuple[int, ...], int] = {}
    return [numbers.setdefault(tuple(key), len(numbers)) for key in keys]


def pack(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    completion_length: int,
    image_index: torch.Tensor,
    positions_of: "PositionsOf",
) -> PackedRows:
    """Pack the rows of a batch.

    Args:
        input_ids: Prompts, padded on the left, and completions, padded on the right, shape `(B, P + C)`.
        attention_mask: 1 where a token stands, shape `(B, P + C)`. A completion without any is not trained.
        completion_length: C.
        image_index: Index of each image of a row, padded by -1, shape `(B, I)`.
        positions_of: Gives the positions of a prompt's tokens.

    Returns:
        The packed rows, on the CPU.
    """
    width = input_ids.shape[1] - completion_length
    input_ids, attention_mask, image_index = input_ids.cpu(), attention_mask.cpu().bool(), image_index.cpu()
    numbers = prompt_numbers(input_ids[:, :width], attention_mask[:, :width], image_index)
    rows_of: list[list[int]] = [[] for _ in range(max(numbers, default=-1) + 1)]
    for row, number in enumerate(numbers):
        rows_of[number].append(row)

    tokens, labels, positions, spans, scored, places = [], [], [], [], [], []
    length = 0
    for rows in rows_of:
        prompt = input_ids[rows[0], :width][attention_mask[rows[0], :width]]
        images = [index for index in image_index[rows[0]].tolist() if index >= 0]
        prompt_positions = positions_of(prompt, images)  # (axes, P)
        responds = bool(attention_mask[rows, width:].any())
        start, prefix, responses = length, len(prompt) - responds, []
        tokens.append(prompt[:prefix])
        labels.append(torch.full((prefix,), IGNORED))
        positions.append(prompt_positions[:, :prefix])
        length += prefix
        for row in rows:
            response = input_ids[row, width:][attention_mask[row, width:]]
            if not len(response):
                continue
            tokens.append(torch.cat([prompt[-1:], response[:-1]]))
            labels.append(response)
            after = prompt_positions.max() + torch.arange(1, len(response))
            positions.append(torch.cat([prompt_positions[:, -1:], after.expand(len(prompt_positions), -1)], dim=1))
            scored.append(torch.arange(length, length + len(response)))
            columns = attention_mask[row, width:].nonzero()[:, 0]
            places.append(torch.stack([torch.full_like(columns, row), columns]))
            responses.append(len(response))
            length += len(response)
        spans.append(PromptSpan(start, prefix, tuple(responses)))

    places_of = torch.cat(places, dim=1) if places else torch.zeros(2, 0, dtype=torch.long)
    return PackedRows(
        tokens=torch.cat(tokens) if tokens else input_ids.new_zeros(0),
        labels=torch.cat(labels) if labels else input_ids.new_zeros(0),
        positions=torch.cat(positions, dim=1) if positions else torch.zeros(1, 0, dtype=torch.long),
        spans=tuple(spans),
        first_rows=tuple(rows[0] for rows in rows_of),
        scored=torch.cat(scored) if scored else torch.zeros(0, dtype=torch.long),
        rows=places_of[0],
        columns=places_of[1],
        shape=(len(input_ids), completion_length),
    )
