"""Speed and size of the exporter, compared with the least that a program in Python can do.

`make bench` prints the figures of docs/performance.md. Two programs are always measured in turn in
the same run, so that a slow or busy machine slows both. The result is their ratio.
"""
