"""Measurements of this machine: ours against slower ways and against the limit."""
