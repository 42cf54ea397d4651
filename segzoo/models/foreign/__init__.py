"""Models that other libraries build; each file's `build` gives a module that maps an image batch to logits."""
