"""Figures: what this pool takes, and what it survives. Nothing here is installed; make targets run it."""
