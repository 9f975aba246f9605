"""What all else stands on: tasks, conversations, states, actions, trees, errors and the protocols of searches."""
