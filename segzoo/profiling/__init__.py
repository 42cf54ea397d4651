"""What a model costs: parameters, operations, latency. Works on any `nn.Module`."""
