"""Runs a command whose processes end with it."""

import os
import signal
import subprocess


def run_group(command, *, timeout=240, cwd=None, **environment):
    """Return the exit status and what was said on stderr; `environment` is added to ours."""
    # A session of its own: torchrun's ranks would outlive it on a time-out.
    with subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            _, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, errors
