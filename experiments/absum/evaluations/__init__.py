"""What is measured of a trained classifier: one entry of the table for each."""

from experiments.absum.evaluations.accuracy import ACCURACY
from experiments.absum.evaluations.fourier import FOURIER
from experiments.absum.evaluations.noise import NOISE
from experiments.harness.evaluation import Evaluation

EVALUATIONS: dict[str, Evaluation] = {"accuracy": ACCURACY, "fourier": FOURIER, "noise": NOISE}
