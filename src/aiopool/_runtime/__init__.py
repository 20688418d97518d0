"""The room that waits: the pool's own thread and loop, feeder threads, child processes, pipes, time."""
