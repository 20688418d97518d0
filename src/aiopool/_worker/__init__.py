"""The room of the child process: it runs the user's function, and answers whatever the user's function does.

A link thread owns the pipes; the main thread owns the user's event loop. Nothing heavy is imported here: a fresh
worker starts with the standard library and cloudpickle.
"""
