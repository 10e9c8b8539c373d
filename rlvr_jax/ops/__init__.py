"""Pure JAX maths for the smallest unit: a trajectory, a group, a row."""
