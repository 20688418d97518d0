"""Where workers come from. An engine is found by its name; ``local`` spawns processes on this machine."""
