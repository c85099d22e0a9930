"""How the processes of one launch say what went wrong: once, at the end, by the launcher.

Every process would print the same mistake. Under `r1sharevl train --accelerate ...` they leave it in the file that
torchelastic gives to each of them, and the launcher prints the first one.
"""

import json
import os
import time
from pathlib import Path

LAUNCHED = "R1_SHAREVL_LAUNCHED"
"""Environment variable by which our launcher tells its processes that it will print their messages."""
_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


def leave_message(message: str) -> bool:
    """Leave a one-line message for the launcher, in the form that torchelastic reads.

    Returns:
        Whether a launcher will print it.
    """
    path = os.environ.get(_ERROR_FILE)
    if os.environ.get(LAUNCHED) != "1" or not path:
        return False
    entry = {"message": {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}}
    try:
        Path(path).write_text(json.dumps(entry), encoding="utf-8")
    except OSError:
        return False
    return True
