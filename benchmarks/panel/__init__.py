"""What it costs to be watched: the throughput of items that do nothing, with a panel and without, side by side."""
