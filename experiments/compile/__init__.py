"""The programs of both experiments, compiled for TPU slices that are not there, and what they need."""
