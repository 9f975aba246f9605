"""Policies and reward models: rendering, engines, and the protocols that searches are written over."""
