"""Progress: plain lines where there is no terminal."""

from experiments.training.progress import ProgressReport


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys):
    with ProgressReport("work", 10, "pieces", done=4, every=0.0) as progress:
        progress.advance(3)
        progress.advance(3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("work: 7/10 pieces, ")
    assert lines[0].endswith(" s left")
    assert lines[-1].startswith("work: 10/10 pieces in ")
