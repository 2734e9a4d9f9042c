"""Coverage-guided search for inputs that make a reader fail otherwise than by a DataError.

``python -m tests.fuzz.atheris_readers [READER...] [--seconds 60]``: each reader in a separate process; prints how
many inputs it was given. Not part of the default run; needs ``pip install atheris``.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.readers import READERS
from tests.fuzz.test_readers import seeded


def search(name: str, seconds: int, folder: Path) -> None:
    """Fuzzes one reader in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(
        include=["datamodules", "experiments", "postproc", "zipfile"], enable_loader_override=False
    ):
        from tests.fuzz.readers import attempt
    reader = seeded(name)
    corpus, work = folder / "corpus", folder / "work"
    for made in (corpus, work):
        made.mkdir()
    for number, seed in enumerate(reader.seeds):
        (corpus / str(number)).write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-print_final_stats=1", "-verbosity=0", "-seed=1"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(corpus)],
                  lambda content: attempt(reader, content, work) and None)  # fmt: skip
    atheris.Fuzz()


def main() -> int:
    """Runs the readers one after the other; the number of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", default=list(READERS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here is not None:
        search(options.readers[0], options.seconds, options.here)
    failed = 0
    for name in options.readers:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "tests.fuzz.atheris_readers", name, f"--seconds={options.seconds}"]
            environment = {**os.environ, "VOICEFACE_CACHE": f"{folder}/cache"}
            done = subprocess.run([*command, f"--here={folder}"], env=environment, capture_output=True, text=True)
        runs = re.findall(r"number_of_executed_units: (\d+)", done.stderr)
        print(f"{name}: {runs[-1] if runs else '?'} inputs, {'failed' if done.returncode else 'fine'}", flush=True)
        if done.returncode:
            failed += 1
            print(done.stderr[-3000:], file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
