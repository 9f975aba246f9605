"""Before a test imports Ray: `jobs` keeps it from starting a cluster unasked."""

import jobs  # noqa: F401
