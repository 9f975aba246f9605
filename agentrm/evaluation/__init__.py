"""What an evaluation says: means with intervals, and the report."""
