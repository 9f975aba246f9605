"""Searches: coroutines over a policy, a reward model and sessions; none of them can reach the true reward."""
