"""Seventeen faults on ten pools: who gets an answer, who is left waiting, and who loses the whole pool.

``make faults`` runs them and writes the table into ``docs/what-happens-when.md``.
"""
