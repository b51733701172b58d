"""Real data sets as NumPy arrays, checked as a whole before any training, and batches of them."""
