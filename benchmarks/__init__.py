"""How fast and lean the exporter is, beside what a user would pick instead and the floor.

`make bench` runs all of it; `docs/performance.md` says what each figure means. Figures are
ratios of two things measured in turn in the same run, so that a slow or busy machine slows both.
"""
