"""What is measured of a trained classifier: one entry of the table for each."""

from experiments.absum.evaluations.accuracy import ACCURACY
from experiments.absum.evaluations.fourier import FOURIER, FOURIER_L2
from experiments.harness.evaluation import Evaluation

EVALUATIONS: dict[str, Evaluation] = {"accuracy": ACCURACY, "fourier": FOURIER, "fourier_l2": FOURIER_L2}
