"""A command that takes ten minutes: ``python -m tests.experiments.protocol.sleeper FILE`` writes its process id."""

import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    Path(sys.argv[1]).write_text(str(os.getpid()))
    time.sleep(600)
