"""Ray reads this when it is imported: nothing may start a cluster by itself after a test has ended its own."""

import os

os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
