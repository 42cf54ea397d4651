"""The benchmark: many models, each in a process of its own, in rounds beside one yardstick."""
