"""On which device a test's body runs: on the CPU, so that it is known to run, and on a CUDA GPU where there is one."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
gpu = pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])
ON_EITHER = pytest.mark.parametrize("device", ["cpu", gpu])


def weights(folder):
    return load_file(next(path for path in Path(folder).glob("*.safetensors")))
