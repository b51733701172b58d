"""Sigsoftmax in language models: AWD-LSTM, mixtures, fine-tuning, dynamic evaluation, ranks."""
