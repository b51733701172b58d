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


def test_nothing_is_said_of_the_time_left_before_anything_is_done(capsys):
    with ProgressReport("work", 10, "pieces", every=0.0) as progress:
        progress.advance(0, "looking")
    assert capsys.readouterr().err.splitlines() == ["work: 0/10 pieces, looking"]
