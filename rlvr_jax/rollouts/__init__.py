"""Tasks to scored rollouts: single turn, episodes, belief, the task stream."""
