"""The flags that the tests share: equal tasks are compiled once."""

SMALL = [
    "--data", "tiny", "--model", "narrow", "--epochs", "1", "--batch-size", "32", "--validation-size", "32",
    "--learning-rate", "0.02",
]  # fmt: skip
ATTACK = ["--fourier.images", "24", "--fourier.epsilons", "0.1", "0.3"]
COMPARE = ["compare", *SMALL, *ATTACK, "--regularizers", "none", "absum", "--seeds", "3"]  # makes ``comparison``
NETWORK = ["train", *SMALL, "--regularizer", "absum", "--out", "net"]  # makes ``network``
