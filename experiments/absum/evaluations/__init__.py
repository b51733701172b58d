"""What is measured of a trained classifier: one entry of the table for each."""

from experiments.absum.evaluations.accuracy import ACCURACY
from experiments.absum.evaluations.checks import CHECKS
from experiments.absum.evaluations.fourier import FOURIER, FOURIER_L2
from experiments.absum.evaluations.heatmap import HEATMAP
from experiments.absum.evaluations.noise import NOISE
from experiments.absum.evaluations.pgd import PROJECTED_GRADIENT_DESCENT
from experiments.absum.evaluations.transfer import TRANSFER
from experiments.absum.evaluations.worst_frequency import WORST_FREQUENCY
from experiments.harness.evaluation import Evaluation

EVALUATIONS: dict[str, Evaluation] = {
    "accuracy": ACCURACY,
    "fourier": FOURIER,
    "fourier_l2": FOURIER_L2,
    "worst_frequency": WORST_FREQUENCY,
    "noise": NOISE,
    "pgd": PROJECTED_GRADIENT_DESCENT,
    "transfer": TRANSFER,
    "heatmap": HEATMAP,
    "checks": CHECKS,
}
