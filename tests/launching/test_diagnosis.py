"""`r1sharevl doctor`: what it finds here, and what it says of machines and packages that are not here."""

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from r1_sharevl.cli import main
from r1_sharevl.launching import diagnosis
from r1_sharevl.launching.diagnosis import diagnose, fitting_recipes, tight_recipes

GIB = 2**30


@pytest.fixture
def without_bitsandbytes_process(monkeypatch):
    """Leave out the one finding that takes seconds."""
    monkeypatch.setattr(diagnosis, "_bitsandbytes", lambda group: diagnosis.Finding(group, "bitsandbytes", "ok", ""))


def by_name(findings):
    return {finding.name: finding for finding in findings}


def test_this_machine_offline(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json", "--output-dir", str(tmp_path / "new" / "runs")])
    output = capsys.readouterr().out
    found = {entry["name"]: entry for entry in json.loads(output)}
    assert ended.value.code == 0, output
    assert found["requirements"]["state"] == "ok"
    assert found["torch"]["found"].startswith(importlib.metadata.version("torch"))
    assert found["bitsandbytes"]["found"] == f"{importlib.metadata.version('bitsandbytes')}, CPU library"
    assert found["network"]["found"].startswith("offline")
    assert found["login"]["state"] == "ok"
    assert "hf_secret" not in output
    assert str(tmp_path) in found["runs"]["found"]
    assert not (tmp_path / "new").exists(), "nothing is written"


def test_a_table_and_exit_code_1_for_what_is_broken(capsys, monkeypatch, without_bitsandbytes_process):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # what an import of a broken package does: it raises
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    output = capsys.readouterr().out
    assert ended.value.code == 1
    assert "broken" in output
    assert "install torch and torchvision together" in output
    assert "Hugging Face Hub" in output


def test_a_folder_that_cannot_be_written(without_bitsandbytes_process, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: "nowhere" not in str(path) and Path(path) != Path("/"))
    assert by_name(diagnose(Path("/nowhere/runs")))["runs"].state == "broken"


def install(monkeypatch, **versions):
    """Let the metadata of packages say that these versions are installed (None: not installed)."""
    real = importlib.metadata.version

    def version(name):
        if name in versions:
            if versions[name] is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return versions[name]
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_requirements_out_of_bounds_or_missing(monkeypatch, without_bitsandbytes_process):
    install(monkeypatch, trl="1.15.0", peft=None)
    found = by_name(diagnose())
    assert (found["trl"].state, found["peft"].state) == ("broken", "broken")
    assert found["trl"].found.startswith("1.15.0, needs ")
    assert found["peft"].advice == 'pip install "peft>=0.20"'
    assert "requirements" not in found


def test_vllm_is_judged_by_trl(monkeypatch, tmp_path, without_bitsandbytes_process):
    import_utils = importlib.import_module("trl.import_utils")
    assert by_name(diagnose())["vLLM"].state == "absent"
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("raise RuntimeError('looked at, not imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(import_utils.PACKAGE_DISTRIBUTION_MAPPING, "vllm", ["vllm"])
    for version, state in (("0.22.0", "ok"), ("0.31.0", "ok"), ("0.31.1", "warning"), ("0.9.2", "warning")):
        install(monkeypatch, vllm=version)
        finding = by_name(diagnose())["vLLM"]
        assert finding.state == state, finding
        assert finding.found.startswith(version)


@pytest.mark.parametrize(
    ("gibibytes", "largest"),
    [
        ([], None),
        ([8.0], None),
        ([11.8], "qwen2_5_vl_3b_qlora_12gb"),  # RTX 3060
        ([23.99], "qwen2_5_vl_3b_lora_24gb"),  # RTX 4090
        ([22.1], "qwen2_5_vl_3b_lora_24gb"),  # A10G
        ([44.4], "qwen2_5_vl_7b_lora_48gb"),  # L40S
        ([79.2], "qwen2_5_vl_32b_qlora_80gb"),
        ([79.2] * 7, "qwen2_5_vl_32b_qlora_80gb"),
        ([79.2] * 8, "qwen2_5_vl_7b_full_8x80gb"),
    ],
)
def test_the_recipes_that_fit(gibibytes, largest):
    fitting = fitting_recipes([int(one * GIB) for one in gibibytes])
    assert (fitting[0] if fitting else None) == largest
    if gibibytes == [23.99]:
        assert fitting == [
            "qwen2_5_vl_3b_lora_24gb",
            "qwen2_5_vl_7b_qlora_24gb",
            "qwen3_vl_4b_lora_24gb",
            "qwen2_5_vl_3b_qlora_12gb",
        ]


def test_a_recipe_that_leaves_little_room_is_marked():
    card = [int(44.4 * GIB)]  # L40S
    assert "qwen2_5_vl_7b_lora_48gb" in fitting_recipes(card)
    assert tight_recipes(fitting_recipes(card), card) == []
    assert tight_recipes(["qwen2_5_vl_7b_lora_48gb"], [38 * GIB]) == ["qwen2_5_vl_7b_lora_48gb"]  # estimated at 36.1
    card = [int(22.1 * GIB)]  # A10G
    assert tight_recipes(["qwen2_5_vl_3b_lora_24gb"], card) == []
    assert tight_recipes(["qwen2_5_vl_7b_qlora_24gb"], card, quantises=False) == []


class _Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path == "/api/whoami-v2" and self.headers["Authorization"] == "Bearer hf_known"
        body = json.dumps({"name": "ada", "type": "user"} if known else {"error": "Invalid"}).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_online_asks_the_hub_and_says_whose_the_token_is(tmp_path):
    server = HTTPServer(("127.0.0.1", 0), _Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    code = (
        "import json\nfrom r1_sharevl.launching.diagnosis import _hub\n"
        "print(json.dumps([finding.to_dict() for finding in _hub(online=True)]))"
    )
    try:
        for token, expected in (("hf_known", "logged in as ada"), ("hf_other", "the Hub does not answer")):
            environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
            environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_TOKEN": token}
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stderr
            (login,) = json.loads(done.stdout)
            assert login["found"].startswith(expected), login
    finally:
        server.shutdown()
        server.server_close()


def test_metadata_that_is_missing_is_broken(monkeypatch, without_bitsandbytes_process):
    def metadata(name) -> Message:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "metadata", metadata)
    assert by_name(diagnose())["r1-sharevl"].state == "broken"
