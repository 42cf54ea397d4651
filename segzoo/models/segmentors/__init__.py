"""Segmentors that join a backbone in their own way, one file each."""
