"""Training: a recipe becomes an optimiser, a schedule, losses and one visible loop."""
