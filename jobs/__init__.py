"""What `ray job submit` runs: one module per job, named like the command line's commands."""

import os

# Nothing may start a cluster by itself after the job has ended its own. Ray reads this when it is imported.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
