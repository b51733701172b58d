"""Absum against other regularisers, under the single Fourier attack."""
