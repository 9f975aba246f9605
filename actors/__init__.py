"""Ray actors and Serve deployments: thin, they put library objects on a cluster."""
