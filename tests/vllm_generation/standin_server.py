"""A server that speaks what TRL's client asks of `vllm serve` over HTTP, and answers with transformers' model.

It keeps what it was asked. The weights come from this process instead of over NCCL: `load` takes them.
"""

import base64
import hashlib
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch
from PIL import Image


class StandInServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, model, processor, *, max_pixels=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.processor, self.max_pixels = model, processor, max_pixels
        self.images, self.asked, self.posted = {}, [], []
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self):
        self.shutdown()
        self.server_close()
        self.thread.join()

    def load(self, named_params):
        own = self.model.state_dict()
        for name, value in named_params:
            own[name].copy_(value)

    def render(self, images):
        """Process images as a conversation of nothing else, and say where they stood in it."""
        features = {"mm_hashes": {"image": []}, "mm_placeholders": {"image": []}, "kwargs_data": {"image": []}}
        offset = 4
        for image in images:
            size = dict(self.processor.image_processor.size) | (
                {"longest_edge": self.max_pixels} if self.max_pixels else {}
            )
            pixels = self.processor.image_processor(image, size=size, return_tensors="pt")
            key = hashlib.sha256(image.tobytes() + str(image.size).encode()).hexdigest()
            self.images[key] = pixels
            length = int(pixels["image_grid_thw"].prod()) // 4
            features["mm_hashes"]["image"].append(key)
            features["mm_placeholders"]["image"].append({"offset": offset, "length": length})
            features["kwargs_data"]["image"].append("pixels of " + key)
            offset += length + 2
        return features

    @torch.no_grad()
    def answer(self, token_ids, features, sampling):
        """Sample `n` responses with their log-probabilities; the images go to the places the features name."""
        inputs = {"input_ids": torch.tensor([token_ids])}
        if features:
            places = features["mm_placeholders"]["image"]
            marked = [p for place in places for p in range(place["offset"], place["offset"] + place["length"])]
            expected = [p for p, token in enumerate(token_ids) if token == self.processor.image_token_id]
            if marked != expected:
                raise ValueError(f"images at {places}, image tokens at {expected}")
            seen = [self.images[key] for key in features["mm_hashes"]["image"]]
            inputs |= {name: torch.cat([pixels[name] for pixels in seen]) for name in seen[0]}
        kinds = (inputs["input_ids"] == self.processor.image_token_id).int()
        never = [int(token) for token, bias in (sampling.get("logit_bias") or {}).items() if bias <= -100]
        settings = {"do_sample": True, "top_k": 0, "suppress_tokens": never or None, "pad_token_id": 0}
        sequences = self.model.generate(
            **inputs,
            attention_mask=torch.ones_like(kinds),
            mm_token_type_ids=kinds,
            num_return_sequences=sampling["n"],
            max_new_tokens=sampling["max_tokens"],
            **settings,
        )
        choices = []
        for sequence in sequences[:, len(token_ids) :].tolist():
            if self.model.generation_config.eos_token_id in sequence:
                sequence = sequence[: sequence.index(self.model.generation_config.eos_token_id) + 1]
            ids = torch.tensor([token_ids + sequence])
            kinds = (ids == self.processor.image_token_id).int()
            whole = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds}
            logits = self.model(**whole).logits[0, len(token_ids) - 1 : -1].log_softmax(-1)
            found = logits.gather(-1, torch.tensor(sequence)[:, None])[:, 0].tolist()
            pairs = zip(sequence, found, strict=True)
            entries = [{"token": f"token_id:{token}", "logprob": value, "top_logprobs": []} for token, value in pairs]
            choices.append({"token_ids": sequence, "logprobs": {"content": entries}})
        return choices


class Handler(BaseHTTPRequestHandler):
    server: StandInServer

    def log_message(self, *args):
        pass

    def reply(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        config = {"weight_transfer_config": {"backend": "nccl"}, "model_config": {"logprobs_mode": "raw_logprobs"}}
        answers = {
            "/health": {},
            "/v1/models": {"data": [{"id": "tiny"}]},
            "/server_info": {"vllm_config": config},
            "/get_world_size": {"world_size": 1},
        }
        path = self.path.split("?")[0]
        self.reply(answers.get(path, {}), 200 if path in answers else 404)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        try:
            with self.server.lock:
                self.server.posted.append(self.path)
                self.reply(self.respond(body))
        except ValueError as error:
            self.reply({"error": str(error)}, 400)

    def respond(self, body):
        server = self.server
        if self.path == "/v1/chat/completions/render":
            urls = [part["image_url"]["url"] for part in body["messages"][0]["content"]]
            decoded = [base64.b64decode(url.removeprefix("data:image/png;base64,")) for url in urls]
            return {"features": server.render([Image.open(io.BytesIO(data)).convert("RGB") for data in decoded])}
        if self.path == "/inference/v1/generate":
            choices = server.answer(body["token_ids"], body["features"], body["sampling_params"])
            server.asked.append((body, [choice["token_ids"] for choice in choices]))
            return {"choices": choices}
        if self.path in (
            "/start_weight_update",
            "/finish_weight_update",
            "/reset_prefix_cache",
            "/reset_encoder_cache",
        ):
            return {}
        raise ValueError(f"no such path: {self.path}")
