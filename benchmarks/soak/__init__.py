"""Half an hour in which everything that can go wrong does so again and again: ``make soak``.

It prints figures, writes them to ``build/soak.json``, and ends with 1 where a promise was broken.
"""
