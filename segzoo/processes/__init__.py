"""Several processes that do one job together, and how a job ends before its time."""
