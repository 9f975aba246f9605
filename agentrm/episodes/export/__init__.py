"""One writer per form that other tools read."""
