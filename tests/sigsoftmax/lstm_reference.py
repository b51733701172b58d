"""The LSTM written out step by step in float64 NumPy."""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def unrolled_lstm(inputs, where, h, c, input_kernel, recurrent_kernel, bias):
    """Outputs [b, T, H] and the last state, row by row and step by step; gates in the order i, f, g, o."""
    size = len(recurrent_kernel)
    h, c = np.array(h, np.float64), np.array(c, np.float64)
    outputs = np.zeros((*np.shape(where), size))
    for row in range(len(where)):
        for t in range(len(where[row])):
            if not where[row, t]:
                continue
            z = inputs[row, t] @ input_kernel + h[row] @ recurrent_kernel + bias
            i, f, g, o = (z[gate * size : (gate + 1) * size] for gate in range(4))
            c[row] = sigmoid(f) * c[row] + sigmoid(i) * np.tanh(g)
            h[row] = sigmoid(o) * np.tanh(c[row])
            outputs[row, t] = h[row]
    return outputs, h, c
