"""One of two processes that train with the stand-in server; each writes the error that stopped it.

Usage: two_ranks.py CHECKPOINT OUT SPOIL, where SPOIL is "weights" (the server has others) or "gone" (it goes away).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "trainer"))

import torch
from accelerate.utils import broadcast_object_list
from rollouts import hash_reward, make_config, make_dataset
from standin_server import StandInServer
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
from trl.generation import vllm_client, vllm_generation

from r1_sharevl import ShareGRPOTrainer
from r1_sharevl.vllm import support

checkpoint, out, spoil = sys.argv[1:]
for module in (vllm_client, vllm_generation, support):
    module.is_vllm_available = lambda min_version=None: True
vllm_client.VLLMClient.init_communicator = lambda self, device: None
vllm_client.VLLMClient.update_named_params = lambda self, metadata, named_params: list(named_params)

processor = AutoProcessor.from_pretrained(checkpoint)
settings = {
    "use_vllm": True,
    "vllm_mode": "server",
    "vllm_server_timeout": 0.0,
    "model_init_kwargs": {"dtype": "float32"},
}
config = make_config(out, **settings)
rank = config.process_index
server = None
if rank == 0:
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    if spoil == "weights":
        model.lm_head.weight.data.neg_()
    server = StandInServer(model, processor)
url = [server.url if server else None]
broadcast_object_list(url)
config.vllm_server_base_url = url[0]
trainer = ShareGRPOTrainer(checkpoint, hash_reward, config, make_dataset(8), processing_class=processor)
if spoil == "gone" and rank == 0:
    import requests

    trainer.vllm_generation.vllm_client.session.mount("http://", requests.adapters.HTTPAdapter(max_retries=0))
    trainer.vllm_generation.sync_weights = server.stop
else:
    trainer.vllm_generation.sync_weights = lambda: None
try:
    trainer.train()
except Exception as error:
    Path(out, f"error_{rank}.txt").write_text(f"{type(error).__name__}: {error}")
