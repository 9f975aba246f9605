"""What people read of a run: the report, comparisons, plots, the model card."""
