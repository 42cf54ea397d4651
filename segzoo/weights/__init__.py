"""Weights: where they come from, getting them here safely, reading them and putting them into a model."""
