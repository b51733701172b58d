"""The command that evaluates a classifier of one's own."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from etils import epath
from typing_extensions import Doc
from tyro.conf import OmitArgPrefixes, arg

from experiments.absum.command_options import Evaluations, Names, described, slug, table_title
from experiments.absum.evaluations import EVALUATIONS
from experiments.absum.own_classifier import Given, OwnClassifier, load_params
from experiments.data.image_sets import image_set_names
from experiments.data.images import load_images
from experiments.harness.command_line import Output
from experiments.harness.directory import held, require_place
from experiments.harness.evaluation import check, chosen, evaluate, made
from experiments.harness.flags import Flags, require_made
from experiments.harness.report import require_own_result, write_report
from experiments.harness.settings import find, to_json, without_places
from experiments.harness.stored import checksum


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOwn:
    """Attack a classifier that was trained elsewhere, given as a function and its parameters, and report."""

    predict: str
    """package.module:function of (params, images [N, H, W, C] in [0, 1]) that gives logits."""
    params: str
    """Their file: msgpack, npz, or a directory that orbax wrote; or package.module:function that returns them."""
    data: Annotated[str, Doc(f"Its images, one of {', '.join(image_set_names())}.")] = "embedded"
    data_dir: Path | None = None
    """Directory of the data set's files."""
    evaluations: Names = ()
    evaluation: Annotated[Evaluations, arg(name="")] = Evaluations()
    output: Annotated[Output, OmitArgPrefixes] = Output()

    def check_flags(self, flags: Flags) -> None:
        """Raise ``ValueError`` for a flag that was given and would be left aside."""
        require_made(flags, EVALUATIONS, made(EVALUATIONS, self.evaluations))

    def run(self) -> None:
        """Evaluate and report."""
        directory = self.output.out or epath.Path("runs") / f"evaluate-own-{slug(self.predict)}-{slug(self.data)}"
        require_own_result(directory, OwnClassifier.experiment, "evaluate-own")
        predict_fn: Any = find(self.predict, {}, "--predict", own=True)
        dataset = load_images(self.data, self.data_dir)
        params = load_params(self.params)
        given: Any = Given(OwnClassifier(self.predict, predict_fn, params, dataset))
        given.subject.check()
        evaluations = chosen(EVALUATIONS, self.evaluations, self.evaluation)
        check(given.subject, evaluations)
        require_place(directory)
        with held(directory):
            finished = [(given, evaluate(given, evaluations, directory))]
        settings = without_places(to_json(self))
        about = {"command": "evaluate-own", "settings": settings, "dataset": described(dataset)}
        if Path(self.params).exists():  # a place, as --data-dir: what lies there is said in place of where it is
            del settings["params"]
            about["params"] = {"name": Path(self.params).name, "checksum": checksum(params)}
        write_report(directory, finished, evaluations, about=about, title=table_title(dataset))
