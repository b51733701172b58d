"""Recipes of language models: the published ones for Penn Treebank and WikiText-2, and small ones to run at once.

AWD-LSTM: Merity, Keskar and Socher, ICLR 2018, arXiv:1708.02182, with the hyper-parameters of its code
(salesforce/awd-lstm-lm). Mixtures: Yang et al., ICLR 2018, arXiv:1711.03953 (zihangdai/mos). Dynamic evaluation:
Krause et al., ICML 2018, arXiv:1709.07432 (benkrause/dynamic-evaluation).
"""

import dataclasses
import math
from typing import Any

import optax

from experiments.data.window_lengths import WindowLengths
from experiments.harness.settings import choices, flag, require_at_least, require_strength
from experiments.sigsoftmax.dynamic_evaluation import DynamicEvaluation
from experiments.sigsoftmax.models import BODIES, Dropouts
from experiments.training.precision import require_compute_dtype

OPTIMIZERS = {"sgd": optax.identity, "adam": optax.scale_by_adam}  # between gradient and learning rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Model, optimisation and evaluation of one language model.

    Args:
        data: the corpus it is meant for.
        body: what lies between embedding and output, an entry of ``BODIES``.
        embedding_size: of the words; the decoder is tied to the embedding.
        hidden_size: of all layers but the last.
        last_size: of the last; equal to ``embedding_size`` without a mixture.
        num_layers: of the body.
        num_experts: components of the mixture; 1 for none.
        dropouts: rates.
        epochs: passes over the training data.
        finetune_epochs: at most so many more, averaged from the first step.
        batch_size: parallel streams.
        learning_rate: for windows of ``bptt`` tokens; others are scaled by their length.
        finetune_learning_rate: the same, of the second phase.
        optimizer: sgd, averaged once the validation stops improving; or adam, averaged in fine-tuning only.
        weight_decay: added to the gradient as weight_decay * parameter, after clipping.
        clip: largest norm of the gradient.
        alpha: weight of activation regularisation (AR).
        beta: weight of temporal activation regularisation (TAR).
        bptt: tokens of a window, most of the time.
        bptt_spread: standard deviation of its length.
        bptt_excess: a window is cut where it would be longer than ``bptt`` by more than this.
        finetune_bptt_excess: the same, of the second phase; None for the same.
        window_sizes: how many sizes windows are padded to; a step is compiled for each.
        compute_dtype: what the layers compute in, float32 or bfloat16; the rest is float32.
        patience: of NT-ASGD, and of the end of fine-tuning.
        evaluation_batch_size: streams of the validation split.
        test_batch_size: streams of the test split.
        vocabulary_size: at most so many words; None for the corpus's own rule.
        minimum_count: words seen fewer times are ``<unk>``; None for the corpus's own rule.
        dynamic: of dynamic evaluation.
    """

    data: str
    embedding_size: int
    hidden_size: int
    last_size: int
    body: str = "lstm"
    num_layers: int = 3
    num_experts: int = 1
    dropouts: Dropouts
    epochs: int
    finetune_epochs: int
    batch_size: int
    learning_rate: float
    finetune_learning_rate: float
    optimizer: str = "sgd"
    weight_decay: float = 1.2e-6
    clip: float = 0.25
    alpha: float = 2.0
    beta: float = 1.0
    bptt: int = 70
    bptt_spread: float = 5.0
    bptt_excess: int
    finetune_bptt_excess: int | None = None
    window_sizes: int = 5
    compute_dtype: str = "float32"
    patience: int = 5
    evaluation_batch_size: int = 10
    test_batch_size: int = 1
    vocabulary_size: int | None = None
    minimum_count: int | None = None
    dynamic: DynamicEvaluation

    def check(self) -> None:
        """Raise ``ValueError`` for a value that no run could use, named as its flag."""
        if self.num_experts < 1:
            raise ValueError(f"--experts must be at least 1, got {self.num_experts}")
        require_at_least(
            self, 1,
            ("epochs", "batch_size", "bptt", "patience", "evaluation_batch_size", "num_layers", "window_sizes",
             "test_batch_size", "embedding_size", "hidden_size", "last_size", "minimum_count"),
        )  # fmt: skip
        require_at_least(self, 2, ("vocabulary_size",))
        require_at_least(self, 0, ("finetune_epochs", "bptt_excess", "finetune_bptt_excess"))
        for name in ("weight_decay", "alpha", "beta"):
            require_strength(flag(name), getattr(self, name))
        for name in ("learning_rate", "finetune_learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{flag(name)} must be positive and finite, got {getattr(self, name)}")
        require_compute_dtype(self.compute_dtype)
        for name, known in (("optimizer", OPTIMIZERS), ("body", BODIES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{flag(name)} must be one of {choices(known)}, got {getattr(self, name)!r}")

    def override(self, **changes: Any) -> "Recipe":
        """The recipe with every change that is not ``None``, checked."""
        changed = dataclasses.replace(self, **{name: v for name, v in changes.items() if v is not None})
        changed.check()
        return changed

    def window_lengths(self, *, finetune: bool = False) -> WindowLengths:
        """The random lengths of the training windows of a phase."""
        own = self.finetune_bptt_excess if finetune else None
        largest = self.bptt + (self.bptt_excess if own is None else own)
        return WindowLengths(base=self.bptt, spread=self.bptt_spread, smallest=min(5, self.bptt), largest=largest)


# The mixtures' dynamic evaluation is published for the root of the SUM of squared gradients over the M segments of
# the training set; divided by sqrt(M) the learning rate and epsilon are those for the mean: M = 929,589 / 500 and
# 2,088,628 / 500. That code also divides by the SUM over its 17 arrays of parameters of each one's mean, where
# Krause et al. (and we) divide by the mean over them: the decay is divided by 17. Not tuned.
_MOS_PTB_DYNAMIC = DynamicEvaluation(0.002 / 43.1, 0.075 / 17, 0.001 / 43.1)
_MOS_WIKITEXT2_DYNAMIC = DynamicEvaluation(0.002 / 64.6, 0.02 / 17, 0.002 / 64.6)
# Those of AWD-LSTM on WikiText-2 are published in the same form, for 14 arrays; on Penn Treebank for the mean.
_AWD_PTB_DYNAMIC = DynamicEvaluation(5e-5, 0.002, 2e-5)
_AWD_WIKITEXT2_DYNAMIC = DynamicEvaluation(0.002 / 64.6, 0.02 / 14, 0.001 / 64.6)

# Chosen in a few runs on the validation split, seed 0: windows and dropout with softmax and MoSS; the learning
# rates with MoS, out of 0.007 and 0.005, as at 0.007 two of its three seeds learned no better than softmax;
# dynamic evaluation with softmax and MoS. Both recipes have the same rates, and the hidden layer of the mixture is
# narrower, so that both have as many parameters (to 0.15 %).
_SMALL_DYNAMIC = DynamicEvaluation(6e-4, 0.005, 1e-4, segment=35)
_SMALL_DROPOUTS = Dropouts(output=0.1, hidden=0.05, input=0.1, embedding=0.02, latent=0.05, weight=0.1)

# Where windows are cut. The code of AWD-LSTM cuts none in its first phase, but a length of bptt + 8 standard
# deviations is never drawn; that of MoS has a flag of its own, max_seq_len_delta.
_NEVER = 40

RECIPES: dict[str, Recipe] = {
    "small": Recipe(
        data="embedded", embedding_size=96, hidden_size=160, last_size=96, num_layers=2, dropouts=_SMALL_DROPOUTS,
        epochs=1, finetune_epochs=1, batch_size=16, learning_rate=0.005, finetune_learning_rate=0.004,
        optimizer="adam", alpha=1.0, beta=0.5, bptt=35, bptt_spread=1.0, bptt_excess=3,
        window_sizes=2, test_batch_size=10, dynamic=_SMALL_DYNAMIC,
    ),
    "mos_small": Recipe(
        data="embedded", embedding_size=96, hidden_size=124, last_size=128, num_layers=2, num_experts=2,
        dropouts=_SMALL_DROPOUTS,
        epochs=1, finetune_epochs=1, batch_size=16, learning_rate=0.005, finetune_learning_rate=0.004,
        optimizer="adam", alpha=1.0, beta=0.5, bptt=35, bptt_spread=1.0, bptt_excess=3,
        window_sizes=2, test_batch_size=10, dynamic=_SMALL_DYNAMIC,
    ),
    "awd_ptb": Recipe(
        data="ptb", embedding_size=400, hidden_size=1150, last_size=400,
        dropouts=Dropouts(output=0.4, hidden=0.25, input=0.4, embedding=0.1, latent=0.0, weight=0.5),
        epochs=500, finetune_epochs=500, batch_size=20, learning_rate=30, finetune_learning_rate=30,
        bptt_excess=_NEVER, finetune_bptt_excess=10, dynamic=_AWD_PTB_DYNAMIC,
    ),
    "awd_wikitext2": Recipe(
        data="wikitext2", embedding_size=400, hidden_size=1150, last_size=400,
        dropouts=Dropouts(output=0.4, hidden=0.2, input=0.65, embedding=0.1, latent=0.0, weight=0.5),
        epochs=750, finetune_epochs=750, batch_size=80, learning_rate=30, finetune_learning_rate=30,
        bptt_excess=_NEVER, finetune_bptt_excess=10, dynamic=_AWD_WIKITEXT2_DYNAMIC,
    ),
    "mos_ptb": Recipe(
        data="ptb", embedding_size=280, hidden_size=960, last_size=620, num_experts=15,
        dropouts=Dropouts(output=0.4, hidden=0.225, input=0.4, embedding=0.1, latent=0.29, weight=0.5),
        epochs=1000, finetune_epochs=1000, batch_size=12, learning_rate=20, finetune_learning_rate=25,
        bptt_excess=40, dynamic=_MOS_PTB_DYNAMIC,
    ),
    "mos_wikitext2": Recipe(
        data="wikitext2", embedding_size=300, hidden_size=1150, last_size=650, num_experts=15,
        dropouts=Dropouts(output=0.4, hidden=0.2, input=0.55, embedding=0.1, latent=0.29, weight=0.5),
        epochs=1000, finetune_epochs=1000, batch_size=15, learning_rate=15, finetune_learning_rate=20,
        bptt_excess=20, dynamic=_MOS_WIKITEXT2_DYNAMIC,
    ),
}  # fmt: skip

# The recipe that a comparison takes for the mixtures, by that of its single functions.
MIXTURES = {"small": "mos_small", "awd_ptb": "mos_ptb", "awd_wikitext2": "mos_wikitext2"}
