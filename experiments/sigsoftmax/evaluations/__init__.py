"""What is measured of a trained language model: one entry of the table for each."""

from experiments.harness.evaluation import Evaluation
from experiments.sigsoftmax.evaluations.dynamic import DYNAMIC
from experiments.sigsoftmax.evaluations.perplexity import PERPLEXITY
from experiments.sigsoftmax.evaluations.rank import RANK
from experiments.sigsoftmax.evaluations.samples import SAMPLES

EVALUATIONS: dict[str, Evaluation] = {
    "perplexity": PERPLEXITY,
    "dynamic": DYNAMIC,
    "rank": RANK,
    "samples": SAMPLES,
}
