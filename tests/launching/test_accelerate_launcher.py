"""Starting the processes of a run: what they are told, how they end, and what the launcher says of it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from r1_sharevl.errors import RunError, StoppedError, UserError
from r1_sharevl.launching.accelerate_launcher import Launch, launch

HERE = Path(__file__).parent
PROBE = "probe_process"
SAGEMAKER = (
    "{compute_environment: AMAZON_SAGEMAKER, distributed_type: 'NO', mixed_precision: 'no', "
    "ec2_instance_type: ml.p3.2xlarge, iam_role_name: me}"
)
LAUNCH = "import sys, json; from r1_sharevl.launching.accelerate_launcher import *\nargs = json.loads(sys.argv[1])\n"
LAUNCH += "sys.exit(launch(args['command'], Launch(**args['where']), module='probe_process'))"


@pytest.fixture(autouse=True)
def probe_can_be_imported(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def start_launcher(command, **where):
    arguments = json.dumps({"command": [str(word) for word in command], "where": where})
    # A session of its own: the launched processes would outlive it on a time-out.
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def told(folder):
    return [json.loads(path.read_text()) for path in sorted(Path(folder).glob("rank_*.json"))]


def test_processes_are_told_their_ranks_and_nothing_that_changes_the_run(tmp_path):
    assert launch(["environment", str(tmp_path)], Launch(num_processes=2), module=PROBE) == 0
    ours = told(tmp_path)
    assert [(one["RANK"], one["LOCAL_RANK"], one["WORLD_SIZE"]) for one in ours] == [("0", "0", "2"), ("1", "1", "2")]
    # The run's own bf16 decides: transformers would take a precision given here for one that the user wants.
    assert {one["ACCELERATE_MIXED_PRECISION"] for one in ours} == {"no"}
    assert not any("ACCELERATE_USE_FSDP" in one or "ACCELERATE_USE_DEEPSPEED" in one for one in ours)


def test_fsdp2_reaches_the_processes(tmp_path):
    assert launch(["environment", str(tmp_path)], Launch("fsdp2", num_processes=2), module=PROBE) == 0
    for one in told(tmp_path):
        assert one["ACCELERATE_USE_FSDP"] == "true"
        assert (one["FSDP_VERSION"], one["FSDP_STATE_DICT_TYPE"]) == ("2", "FULL_STATE_DICT")


def test_two_machines_meet(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"accelerate": "multi_node", "num_machines": 2, "num_processes": 2, "main_process_port": port}
    where["main_process_ip"] = "127.0.0.1"
    other = start_launcher(["environment", tmp_path], machine_rank=1, **where)
    try:
        assert launch(["environment", str(tmp_path)], Launch(**where, machine_rank=0), module=PROBE) == 0
        _, errors = other.communicate(timeout=120)
        assert other.returncode == 0, errors
    finally:
        other.kill()
    assert [(one["RANK"], one["LOCAL_RANK"], one["WORLD_SIZE"]) for one in told(tmp_path)] == [
        ("0", "0", "2"),
        ("1", "0", "2"),
    ]


def test_one_process_takes_the_launchers_place(tmp_path):
    process = start_launcher(["environment", tmp_path], accelerate="single_gpu")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert [one["pid"] for one in told(tmp_path)] == [process.pid], "its signals and exit code are the run's own"


def test_a_users_mistake_in_every_process_is_one_error_with_its_exit_code(capfd):
    with pytest.raises(UserError, match=r"^config file nowhere\.yaml does not exist$"):
        launch(["train", "--config", "nowhere.yaml"], Launch(num_processes=2))
    errors = capfd.readouterr().err
    assert "nowhere.yaml" not in errors, "the launcher's caller prints it, once"
    assert "Traceback" not in errors
    assert "R1_SHAREVL_LAUNCHED" not in os.environ


def test_a_killed_process_and_an_exit_code_without_a_message():
    with pytest.raises(RunError, match=r"^process 1 was ended by SIGKILL, .*memory.*--resume$"):
        launch(["killed"], Launch(num_processes=2), module=PROBE)
    assert launch(["exit", "7"], Launch(num_processes=2), module=PROBE) == 7
    with pytest.raises(StoppedError) as stopped:
        launch(["exit", "143"], Launch(num_processes=2), module=PROBE)
    assert (stopped.value.exit_code, str(stopped.value)) == (143, "")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (Launch("nowhere"), r"--accelerate nowhere: no such file, and no packaged recipe; .* ddp, fsdp2, multi_node"),
        (Launch("nowhere.yaml"), r"config file nowhere\.yaml does not exist"),
        (Launch("zero3"), r"zero3\.yaml needs DeepSpeed, .* pip install"),
        (Launch("single_gpu", num_processes=2), r"starts one process .* --accelerate ddp"),
        (Launch("multi_node"), r"needs --main-process-ip"),
        (Launch("multi_node", machine_rank=4, main_process_ip="10.0.0.1"), r"--machine-rank is 4: .* 0 to 3"),
        (Launch("multi_node", num_processes=6, main_process_ip="10.0.0.1"), r"6 processes do not divide over 4"),
    ],
)
def test_a_launch_that_cannot_be_is_refused_before_it_starts(where, message):
    with pytest.raises(UserError, match=message):
        launch(["environment", "/nowhere"], where, module=PROBE)


@pytest.mark.parametrize(
    "text", ["- a list", "distributed_type: [", "num_processes: 2", "distributed_type: MULTI_CPUS"]
)
def test_a_file_that_is_no_accelerate_config(text, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"broken\.yaml is no config file of accelerate"):
        launch(["environment", str(tmp_path)], Launch(str(path)), module=PROBE)
    for settings in ({}, {"num_processes": "two"}, {"num_processes": 0}):
        path.write_text(yaml.safe_dump({"distributed_type": "MULTI_GPU", **settings}))
        with pytest.raises(UserError, match=r"give --num-processes"):
            launch(["environment", str(tmp_path)], Launch(str(path)), module=PROBE)


def test_a_launch_inside_a_launch_is_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(UserError, match="one launcher only"):
        launch(["environment", "/nowhere"], Launch(num_processes=2), module=PROBE)
