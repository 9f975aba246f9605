"""Clusters on paper: what cluster.yaml describes, whether a configuration fits there, and its form for Kubernetes."""
