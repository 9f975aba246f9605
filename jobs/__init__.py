"""What `ray job submit` runs: one module per job, named like the command line's commands."""
