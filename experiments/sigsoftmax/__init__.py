"""Sigsoftmax against softmax in language models, alone and in mixtures."""
