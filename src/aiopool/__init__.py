"""``await pmap(fn, data)`` in a notebook: every core, thousands of coroutines, live, and a Stop button that works."""

__version__ = "0.1.0"
