"""PDDL."""
