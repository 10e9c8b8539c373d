"""Where do questions come from? Environments: {split: sequence of Task}."""
