"""The command line: one module a group of commands. Each parses, calls one function and prints one Run."""
