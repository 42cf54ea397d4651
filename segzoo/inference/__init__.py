"""Test protocols: whole image, sliding windows, multi-scale with flip, aligned resize."""

from segzoo.inference.network import Network
from segzoo.inference.prediction import predict, predict_and_count, predict_with, predict_with_confidence

__all__ = ["Network", "predict", "predict_and_count", "predict_with", "predict_with_confidence"]
