"""One reader per form in which episodes are stored."""
