"""Training: packing, losses, and the one DeepSpeed loop of behaviour cloning and reward modelling."""
