"""The flags that the tests share: equal tasks are compiled once."""

SMALL = [
    "--data", "tiny", "--model", "narrow", "--epochs", "1", "--batch-size", "32", "--validation-size", "32",
    "--learning-rate", "0.02", "--augment", "True",
]  # fmt: skip
ATTACK = ["--fourier.images", "24", "--fourier.epsilons", "0.1", "0.3"]
NETWORK = ["train", *SMALL, "--regularizer", "absum", "--out", "net"]  # the command that makes ``network``
