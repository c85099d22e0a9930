"""One TensorBoard log for a run that was resumed."""

from pathlib import Path

from transformers.integrations import TensorBoardCallback


def continued_tensorboard(output_dir: Path, step: int) -> TensorBoardCallback | None:
    """Return a callback that goes on with the run's log after `step`, or None if there is no log to go on with.

    transformers' own opens another folder at every start, so that TensorBoard shows two runs that overlap where steps
    were done again. Here the steps after the checkpoint are hidden and written anew.

    Args:
        output_dir: The run folder.
        step: Optimizer steps of the checkpoint.
    """
    from torch.utils.tensorboard import SummaryWriter

    logs = sorted(output_dir.glob("runs/*/events.out.tfevents*"), key=lambda path: path.stat().st_mtime)
    if not logs:
        return None
    return TensorBoardCallback(SummaryWriter(log_dir=str(logs[-1].parent), purge_step=step + 1))
