"""What reward models say of stored episodes: values of every step, Best-of-N, and the benchmarks of others."""
