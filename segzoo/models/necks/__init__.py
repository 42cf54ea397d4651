"""Necks: modules between backbone and head, one file for each `type`."""
