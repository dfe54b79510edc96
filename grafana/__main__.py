"""Write the generated files, or with `--check` report those that are stale."""

import argparse
import sys
from pathlib import Path

from grafana.files import generated_files


def main(arguments: list[str] | None = None, root: Path | None = None) -> int:
    """Write the generated files, or check them.

    Args:
        arguments: of the command line.
        root: where to write; the repository by default.

    Returns:
        The exit status: 1 when `--check` found a stale file, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m grafana", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail on stale files")
    check = parser.parse_args(arguments).check
    stale = [
        (path, text)
        for path, text in generated_files(root or Path(__file__).parent.parent).items()
        if not path.is_file() or path.read_text() != text
    ]
    for path, text in stale:
        if check:
            print(f"{path} is stale: run `make dashboards` and commit it", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"wrote {path}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
