"""Run by the launcher's tests as a process of a launch: `python -m probe_process ACT [FILE]`."""

import json
import os
import signal
import sys

KEPT = ("RANK", "LOCAL_RANK", "WORLD_SIZE")


def act(what, *files):
    rank = int(os.environ.get("RANK", "0"))
    if what == "environment":
        names = {name for name in os.environ if name.startswith(("ACCELERATE_", "FSDP_"))}
        found = {name: os.environ.get(name) for name in {*KEPT, *names}}
        with open(os.path.join(files[0], f"rank_{rank}.json"), "w") as file:
            json.dump({"pid": os.getpid(), **found}, file)
    elif what == "killed":
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()
    elif what == "exit":
        sys.exit(int(files[0]))


if __name__ == "__main__":
    act(*sys.argv[1:])
