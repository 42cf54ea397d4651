"""Data sets: reading files, label policies, and one interface for folders of pairs and the drawn `scenes`."""
