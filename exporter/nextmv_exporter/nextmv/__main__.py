"""`python -m nextmv_exporter.nextmv` is `nextmv-queue`."""

from nextmv_exporter.__main__ import queue

if __name__ == "__main__":
    queue()
