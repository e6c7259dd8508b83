"""Fuzzes the AI door's reading of a body: boundary, gzip, multipart, parts, event.

    python fuzz/multipart_fuzz.py -max_total_time=60 [corpus directory]

Options are libFuzzer's. An empty corpus directory is filled with the seeds first.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

if __name__ == "__main__":  # started as a file: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

with atheris.instrument_imports(include=["nilometer", "multipart"]):
    from tests.capture.form_check import check, seeds


def main() -> None:
    """Run until libFuzzer's limits; exits with an error for the first input that fails."""
    for argument in sys.argv[1:]:
        directory = Path(argument)
        if directory.is_dir() and not any(directory.iterdir()):
            for number, seed in enumerate(seeds()):
                (directory / f"seed-{number}").write_bytes(seed)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
