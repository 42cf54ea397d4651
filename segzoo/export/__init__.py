"""Models as files that run without segzoo: ONNX, torch.export, TorchScript, Core ML."""
