"""Eleven kinds of work, and what is promised of each beside what it is compared to: ``make bench``.

It prints medians and ratios with their spread, writes ``build/bench.json``, the picture in ``docs/images`` and the
tables in ``docs/performance.md``.
"""
