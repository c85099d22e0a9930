"""Where the (prompt, response) pairs of a question stand in a batch."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class GroupLayout:
    """Order of the rows of one question, its *group*.

    TRL's sampler repeats a dataset row `rows_per_question` times, and each process holds a consecutive slice of the
    batch. Within a group, the rows of one response are neighbours, and the first of them is the response under its own
    prompt. With `num_variants` m = 2 prompts and `responses_per_prompt` n = 2 responses `o[k,i]` to each:

        position            0       1       2       3       4       5       6       7
        response          o[0,0]  o[0,0]  o[0,1]  o[0,1]  o[1,0]  o[1,0]  o[1,1]  o[1,1]
        trained under      q_0     q_1     q_0     q_1     q_1     q_0     q_1     q_0
                            ^ own           ^ own           ^ own           ^ own

    So the rows to generate are `[::copies]`, on every process whose share of the batch is a multiple of `copies`, and
    rows that generate from the same prompt follow each other, as TRL's vLLM server mode expects. Without sharing,
    `copies` is 1 and every row is a response under its own prompt.

    Args:
        num_variants: Prompts per question, m.
        responses_per_prompt: Responses generated for each prompt, n.
        share: Whether a response is trained under every prompt of its question.
    """

    num_variants: int
    responses_per_prompt: int
    share: bool = True

    @property
    def copies(self) -> int:
        """Rows per response."""
        return self.num_variants if self.share else 1

    @property
    def rows_per_question(self) -> int:
        """Rows per group."""
        return self.num_variants * self.responses_per_prompt * self.copies

    def own_prompt(self, position: int) -> int:
        """Index of the prompt that the response at `position` of a group was sampled from."""
        return position // self.copies // self.responses_per_prompt

    def prompt(self, position: int) -> int:
        """Index of the prompt that the response at `position` of a group is trained under."""
        return (self.own_prompt(position) + position % self.copies) % self.num_variants

    def rows(self, advantages: torch.Tensor) -> torch.Tensor:
        """Put the advantages of all pairs into the order of the batch.

        Args:
            advantages: Shape `(Q, m, n, m)`, as `hierarchical_advantages` returns it: of response `i` to prompt `k`,
                trained under prompt `j`.

        Returns:
            Shape `(Q * rows_per_question,)`.
        """
        positions = range(self.rows_per_question)
        k = torch.tensor([self.own_prompt(position) for position in positions])
        i = torch.tensor([position // self.copies % self.responses_per_prompt for position in positions])
        j = torch.tensor([self.prompt(position) for position in positions])
        return advantages[:, k, i, j].flatten()
