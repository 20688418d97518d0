"""The room that decides. No asyncio, no os, no threads, no pickle, no clock: time is an argument."""
