"""`python -m pictures`: make the pictures of the README."""

import os
from pathlib import Path

from pictures import day, page

FOLDER = Path(__file__).parents[1] / "docs" / "images"

if __name__ == "__main__":
    os.environ["no_proxy"] = "127.0.0.1"  # the servers are this machine's own
    FOLDER.mkdir(exist_ok=True)
    page.take(FOLDER)
    day.draw(FOLDER)
