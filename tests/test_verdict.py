import pytest

from elman.verdict import verdict

UNIT = "nats per character"


def test_recurrence_helps_where_all_seeds_are_ahead_by_more_than_their_spread():
    said = verdict({"feedforward": [1.60, 1.62], "lstm": [1.49, 1.50]}, {}, UNIT)
    assert said == (
        "lstm is ahead of feedforward by 7.1% (0.115 nats per character), more than the spread between seeds (0.02): "
        "recurrence helps. (By chance alone, all seeds of one are ahead of all of the other 1 time in 3.)"
    )


def test_recurrence_does_not_pay_where_feedforward_is_ahead():
    said = verdict({"feedforward": [1.0, 1.01], "gru": [1.5, 1.51]}, {}, UNIT)
    assert said.startswith("feedforward is ahead of gru by 33.")
    assert "recurrence does not pay here" in said


@pytest.mark.parametrize("lstm", [[1.4, 1.6], [1.52, 1.59]])
def test_no_conclusion_within_the_spread(lstm):
    said = verdict({"feedforward": [1.60, 1.70], "lstm": lstm}, {}, UNIT)
    assert "within the spread between seeds" in said
    assert "no conclusion. Give more --seeds or --minutes." in said
    assert "recurrence" not in said


def test_one_seed_says_nothing_of_spread():
    said = verdict({"feedforward": [1.6], "lstm": [1.4]}, {}, UNIT)
    assert "with one seed: how far seeds differ is not known" in said
    assert "recurrence" not in said


def test_the_best_two_recurrent_ones_are_compared_too():
    said = verdict(
        {"rnn": [2.0, 2.0], "gru": [1.5, 1.5], "lstm": [1.2, 1.2], "feedforward": [3.0, 3.0]}, {}, UNIT
    )
    assert [line.split(" by ")[0] for line in said.splitlines()] == [
        "lstm is ahead of feedforward",
        "lstm is ahead of gru",
    ]


def test_the_baseline_is_said_to_be_better_where_it_is():
    assert "trigram is better than every model here" in verdict({"lstm": [2.1]}, {"trigram": 2.0}, UNIT)
    assert verdict({"lstm": [1.9]}, {"trigram": 2.0}, UNIT) == (
        "lstm is ahead of trigram by 5.0% (0.1 nats per character)."
    )


def test_chance_counts_the_orders_of_all_seeds():
    said = verdict({"feedforward": [3.0, 3.1, 3.2], "lstm": [1.0, 1.1, 1.2]}, {}, UNIT)
    assert "1 time in 10" in said


def test_failed_models_are_named():
    said = verdict({"rnn": [], "gru": [1.0], "lstm": [1.1]}, {}, UNIT)
    assert said.startswith("No model came of rnn: the loss became NaN.\ngru is ahead of lstm")
    assert verdict({"rnn": []}, {"trigram": 2.0}, UNIT) == "No model came of rnn: the loss became NaN."
