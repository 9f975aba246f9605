"""A run in the browser: stages, curves, results, and search trees; it reads the run directory and never writes."""
