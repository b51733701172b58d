"""The pictures of the evaluations."""
