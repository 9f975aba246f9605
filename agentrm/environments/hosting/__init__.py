"""Live environments behind sessions, processes and deadlines."""
