"""Unmask trains, compares and serves detectors of deepfake faces."""

__version__ = "0.1.0"
