"""Speed and size of the exporter, compared with the alternatives and with the minimum.

`make bench` runs all of it; `docs/performance.md` explains each figure. Figures are
ratios of two things measured in turn in the same run, so that a slow or busy machine slows both.
"""
