"""Ray actors and Serve deployments: thin, they put library objects on a cluster."""

import os

# Serve's replicas answer over gRPC in less than two thirds of the time of an actor call. Serve reads this on import.
os.environ.setdefault("RAY_SERVE_USE_GRPC_BY_DEFAULT", "1")
