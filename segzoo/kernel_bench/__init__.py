"""`segzoo kernel bench`: every claim of speed as a ratio to a rival that runs in turn with it."""
