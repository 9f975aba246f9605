"""The configuration: every setting with its bounds, the presets, the task lists, and how they are loaded."""
