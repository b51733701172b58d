"""Sigsoftmax output activations, their losses and mixtures, as pure functions."""
