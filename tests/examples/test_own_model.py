"""The example of own models runs for each of the four libraries, and Absum reaches the kernels of each."""

from examples import own_model


def test_the_penalty_of_every_model_goes_to_zero(capsys):
    penalties = own_model.main()
    assert set(penalties) == {"nnx", "linen", "haiku", "equinox"}
    for name, (before, after) in penalties.items():
        assert before > 0.5, name
        # The threshold 1 is above the mean of every 3x3 filter; what is left of its sum of 9 taps is rounding.
        assert after < 1e-5, name
    printed = capsys.readouterr().out
    assert all(name in printed for name in penalties)
