"""The recipe: from a model and data to hyperparameters, step by step, each with its evidence."""
