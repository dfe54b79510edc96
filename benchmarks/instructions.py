"""`python -m benchmarks.instructions`: a piece of work for callgrind to count, several times."""

import sys
from pathlib import Path

import orjson

from benchmarks.ours import Account

_WORK = {"exporter": Account().exposition_of, "orjson": orjson.loads}


def main() -> None:
    """Do the work that the arguments name: name, repetitions, file with the response."""
    name, times, file = sys.argv[1:]
    body = Path(file).read_bytes()
    for _ in range(int(times)):
        _WORK[name](body)


if __name__ == "__main__":
    main()
