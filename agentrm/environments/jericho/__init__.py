"""Jericho."""

DATA_VARIABLE = "JERICHO_ROMS"
SOURCE = "story files (such as those of github.com/BYU-PCCL/z-machine-games)"
MAX_STEPS = 30
