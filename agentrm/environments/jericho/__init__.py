"""Jericho."""
