"""The items themselves, in tiny sizes; interrupted ones give what uninterrupted ones give."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.accelerator import language_models, timed_runs
from benchmarks.accelerator.__main__ import main
from benchmarks.accelerator.items import ITEMS, benchmark_pieces
from benchmarks.accelerator.library_tests import ROOT, files_of_tests, run_tests
from benchmarks.accelerator.packed_images import read_images
from benchmarks.accelerator.work import Budget, Call, OutOfTimeError, work_through
from benchmarks.table import BENCHMARKS
from tests.command_line import only

RNG = np.random.default_rng(0)
TRAINED = ("images", "language_models")


@pytest.fixture(scope="session")
def pictures():
    """Smooth ones, which JPEG changes little: uint8 [64, 32, 32, 3]."""
    small = [Image.fromarray(each) for each in RNG.integers(0, 256, (64, 4, 4, 3), dtype=np.uint8)]
    return np.stack([np.asarray(each.resize((32, 32), Image.Resampling.BICUBIC)) for each in small])


@pytest.fixture(scope="session")
def packed(pictures, tmp_path_factory):
    """A file of them as JPEG images with their header in common; 48 are for training."""
    files = []
    for each in pictures:
        file = io.BytesIO()
        Image.fromarray(each).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    # The header ends with the start of the scan: its marker and 12 bytes.
    size = files[0].index(b"\xff\xda") + 14
    assert all(each[:size] == files[0][:size] for each in files)
    scans, labels = [each[size:] for each in files], np.arange(64) % 10
    path = tmp_path_factory.mktemp("packed") / "few_jpeg95.npz"
    np.savez(
        path,
        header=np.frombuffer(files[0][:size], np.uint8), data=np.frombuffer(b"".join(scans), np.uint8),
        offsets=np.cumsum([0, *map(len, scans)]), y_train=labels[:48], y_test=labels[48:],
    )  # fmt: skip
    return path


@pytest.fixture(scope="session")
def wikitext(tmp_path_factory):
    """Random words in the files of WikiText-2."""
    directory, words = tmp_path_factory.mktemp("wikitext"), [f"w{i}" for i in range(30)]
    for split, count in (("train", 600), ("valid", 120), ("test", 60)):
        text = " ".join([*(words if split == "train" else ()), *RNG.choice(words, count)])
        (directory / f"wiki.{split}.tokens").write_text(text + "\n")
    return directory


@pytest.fixture(scope="session")
def flags(packed, wikitext):
    return {"cifar": packed, "wikitext": wikitext, "tiny": True}


@pytest.fixture(scope="session")
def finished(flags, tmp_path_factory):
    """The directory of both trained items, worked through at one go."""
    out = tmp_path_factory.mktemp("finished")
    call = Call(out, Budget.of_minutes(60), **flags)
    assert work_through({name: ITEMS[name] for name in TRAINED}, call) == ({}, 0)
    return out


def results(out, item):
    """What the pieces of an item gave, without what depends on the clock."""
    pieces = json.loads((out / f"{item}.json").read_text())["pieces"]
    return {name: untimed(piece["result"]) for name, piece in pieces.items()}


def untimed(value):
    if isinstance(value, dict):
        return {name: untimed(inner) for name, inner in value.items() if "second" not in name}
    return [untimed(inner) for inner in value] if isinstance(value, list) else value


def test_a_network_is_trained_and_attacked(finished):
    found = results(finished, "images")
    assert list(found) == ["train absum", "attack absum, bfloat16", "attack absum, float32"]
    assert [line["epoch"] for line in found["train absum"]["epochs"]] == [1, 2]
    assert found["train absum"]["strength"] > 0
    for name in ("bfloat16", "float32"):
        attack = found[f"attack absum, {name}"]
        assert attack["images"] == 16
        assert attack["frequencies"] == 130  # every distinct one of 16 x 16
        assert len(attack["worst_accuracy"]) == 4
    piece = json.loads((finished / "images.json").read_text())["pieces"]["attack absum, float32"]
    assert 0 < piece["result"]["seconds"] <= piece["seconds"]
    assert piece["result"]["attacked_images_per_second"] > 0


def test_in_full_three_networks_are(packed, tmp_path):
    assert list(ITEMS["images"](Call(tmp_path, Budget.of_minutes(1), cifar=packed))) == [
        "train none", "train weight_decay", "train absum",
        "attack none, bfloat16", "attack weight_decay, bfloat16", "attack absum, bfloat16",
        "attack absum, float32",
    ]  # fmt: skip


def test_bfloat16_is_what_is_attacked_in(finished):
    networks = (finished / "images" / "absum" / name for name in ("Classifier", "BFloat16Classifier"))
    stored = (only(each / "evaluations" / "fourier") / "arrays.npz" for each in networks)
    one, other = (np.load(each)["test_correct"] for each in stored)
    assert one.shape == other.shape
    assert (one != other).any()


def test_a_network_is_made_longer_piece_by_piece(finished):
    found = results(finished, "language_models")
    assert list(found) == ["moss, 1 epochs", "moss, 2 epochs"]
    one, two = (each["epochs"] for each in found.values())
    assert two[:1] == one
    assert len(two) == 2
    assert all(each["step_memory_bytes"] > 0 for each in found.values())


@pytest.mark.parametrize(
    ("name", "score", "experts"),
    [
        ("softmax", "softmax", 1),
        ("sigsoftmax", "sigsoftmax", 1),
        ("mos", "softmax", 15),
        ("moss", "sigsoftmax", 15),
    ],
)
def test_in_full_the_published_recipes_are_trained(name, score, experts):
    settings = language_models.settings_of(name, 5, tiny=False)
    assert (settings.score, settings.recipe.num_experts, settings.recipe.epochs) == (score, experts, 5)
    assert settings.recipe.data == "wikitext2"
    assert settings.recipe.hidden_size == 1150


def test_in_full_both_mixtures_come_before_long_trainings(wikitext, tmp_path):
    names = list(ITEMS["language_models"](Call(tmp_path, Budget.of_minutes(1), wikitext=wikitext)))
    assert names[:5] == [
        "softmax, 5 epochs", "sigsoftmax, 5 epochs", "mos, 2 epochs", "moss, 2 epochs", "softmax, 10 epochs",
    ]  # fmt: skip
    assert names[-1] == "sigsoftmax, 40 epochs"


def test_a_second_call_does_nothing_again(finished, flags, capfd):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.npz")}
    arguments = ["--cifar", str(flags["cifar"]), "--wikitext", str(flags["wikitext"]), "--tiny"]
    assert main([*TRAINED, "--out", str(finished), *arguments]) == 0
    printed = capfd.readouterr()
    assert printed.out.splitlines()[1:] == ["nothing is left"]
    assert printed.err == ""
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.npz")} == before


class FewLooks(Budget):
    """A budget that is spent when it has been looked at so often, from inside a piece."""

    looks = 0

    @property
    def seconds_left(self):
        return -1.0 if self.looks > 2 else 1.0

    def require(self):
        object.__setattr__(self, "looks", self.looks + 1)
        super().require()


@pytest.mark.slow
def test_interrupted_is_as_uninterrupted(finished, flags, tmp_path, monkeypatch):
    monkeypatch.setattr(timed_runs, "CHECKPOINT_EVERY", 3)
    items, num_calls = {name: ITEMS[name] for name in TRAINED}, 1
    while work_through(items, Call(tmp_path, FewLooks.of_minutes(60), **flags))[0]:
        num_calls += 1
        assert num_calls < 100
    assert num_calls > 4  # within epochs, between them, and between parts of an attack
    for name in TRAINED:
        assert results(tmp_path, name) == results(finished, name)


@pytest.mark.slow
def test_the_seconds_of_all_parts_are_kept(finished, flags, tmp_path):
    training = {"images": lambda call: dict(list(ITEMS["images"](call).items())[:2])}
    num_calls = 1
    while work_through(training, Call(tmp_path, FewLooks.of_minutes(60), **flags))[0]:
        num_calls += 1
    attack = json.loads((tmp_path / "images.json").read_text())["pieces"]["attack absum, bfloat16"]["result"]
    assert num_calls > 3
    assert len(attack["part_seconds"]) > num_calls  # at least one in each call but that of the training
    assert attack["seconds"] == pytest.approx(sum(attack["part_seconds"]))


def test_the_packed_images_are_read_as_they_are(packed, pictures):
    dataset = read_images(packed)
    assert dataset.name == "few_jpeg95"
    images = np.concatenate([dataset.train_images, dataset.test_images])
    assert images.shape == pictures.shape
    # Quality 95 moves a smooth pixel by a few grey levels; another image would be 60 off.
    assert np.abs(images.astype(int) - pictures).mean() < 4
    np.testing.assert_array_equal(dataset.test_labels, np.arange(48, 64) % 10)


def test_a_file_of_something_else(tmp_path):
    np.savez(tmp_path / "other.npz", header=np.zeros(3))
    with pytest.raises(ValueError, match="must have data, offsets, y_test, y_train, got header"):
        read_images(tmp_path / "other.npz")


def test_without_a_decoder_the_images_are_left_out(packed, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    left, _ = work_through({"images": ITEMS["images"]}, Call(tmp_path, Budget.of_minutes(1), cifar=packed))
    assert "install Pillow" in left["images"]


def test_every_benchmark_is_a_piece(tmp_path):
    pieces = benchmark_pieces(Call(tmp_path, Budget.of_minutes(1), tiny=True))
    assert list(pieces) == list(BENCHMARKS)
    (row,) = pieces["log_sigsoftmax"]()
    assert row["bar"] == 1.25
    assert row["holds"] is (row["value"] <= 1.25)


def test_block_sizes_are_compared(tmp_path):
    assert main(["block_sizes", "--tiny", "--out", str(tmp_path)]) == 0
    pieces = json.loads((tmp_path / "block_sizes.json").read_text())["pieces"]
    assert list(pieces) == ["8 x 4 x 640, float32", "8 x 4 x 640, bfloat16"]
    result = pieces["8 x 4 x 640, bfloat16"]["result"]
    assert set(result["seconds_by_block_size"]) == {"512", "640"}
    assert result["default_block_size"] == 640


def test_full_shapes_reach_the_whole_vocabulary(tmp_path):
    names = list(ITEMS["block_sizes"](Call(tmp_path, Budget.of_minutes(1))))
    assert len(names) == len(set(names)) == 18
    assert "8192 x 4096 x 128256, bfloat16" in names


def test_both_libraries_are_tested_in_full(tmp_path):
    pieces = ITEMS["library_tests"](Call(tmp_path, Budget.of_minutes(1)))
    assert list(pieces) == ["absum_jax", "sigsoftmax_jax", *files_of_tests()]
    assert "tests/sigsoftmax_jax/test_linear.py" in pieces


def test_tests_are_summed_up_by_name(tmp_path):
    path = tmp_path / "test_some.py"
    path.write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2\n"
        "@pytest.mark.skip(reason='needs 8 devices')\ndef test_many(): pass\n"
        "@pytest.fixture\ndef broken(): raise OSError('gone')\n"
        "def test_broken(broken): pass\n"
    )
    summary = run_tests(path, Budget.of_minutes(5))
    assert summary["passed"] == 1
    failed = {name.rpartition("::")[2]: said for name, said in summary["failed"].items()}
    assert "assert 1 == 2" in failed["test_bad"]
    assert "gone" in failed["test_broken"]
    (reason,) = summary["left_out"].values()
    assert "needs 8 devices" in reason


def test_tests_end_with_the_time(tmp_path):
    (tmp_path / "test_slow.py").write_text("import time\ndef test_slow(): time.sleep(60)\n")
    with pytest.raises(OutOfTimeError):
        run_tests(tmp_path / "test_slow.py", Budget.of_minutes(0))


def test_a_test_run_that_cannot_begin_is_a_failure(tmp_path):
    with pytest.raises(RuntimeError, match="pytest ended with status"):
        run_tests(tmp_path / "test_none.py", Budget.of_minutes(5))


@pytest.mark.parametrize(("backend", "outcome"), [("cpu", "failed"), ("gpu", "left_out")])
def test_a_test_of_many_devices_is_never_left_out_on_the_cpu(tmp_path, backend, outcome):
    path = tmp_path / "test_many.py"
    path.write_text("import pytest\n@pytest.mark.devices(9)\ndef test_many(): pass\n")
    settings = (ROOT / "tests" / "conftest.py").read_text()
    (tmp_path / "conftest.py").write_text(f"{settings}\njax.default_backend = lambda: {backend!r}\n")
    summary = run_tests(path, Budget.of_minutes(5))
    assert summary["passed"] == 0
    ((_, reason),) = summary[outcome].items()
    assert "needs 9 devices, got 8" in reason
