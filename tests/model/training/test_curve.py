"""The training curve's rows."""

from bertline.model.training.curve import TrainingLog, evaluations, rows_of, training_rows


def test_rows_are_means_and_the_last_rate() -> None:
    log = TrainingLog(2)
    assert log.add(1, {"loss": 4.0, "learning_rate": 0.1}) is None
    assert log.add(2, {"loss": 2.0, "learning_rate": 0.2}) == {"step": 2, "loss": 3.0, "learning_rate": 0.2}
    assert log.add(3, {"loss": 1.0, "learning_rate": 0.3}, last=True) == {"step": 3, "loss": 1.0, "learning_rate": 0.3}
    assert rows_of(log.to_lines()) == log.rows


def test_a_log_that_goes_on_equals_one_that_never_stopped() -> None:
    metrics = [{"loss": 1.0 / step, "learning_rate": 0.1} for step in range(1, 8)]
    whole = TrainingLog(3)
    for step, row in enumerate(metrics, start=1):
        whole.add(step, row)
    first = TrainingLog(3)
    for step, row in enumerate(metrics[:4], start=1):
        first.add(step, row)
    second = TrainingLog(3, first.rows, first.pending)
    for step, row in enumerate(metrics[4:], start=5):
        second.add(step, row)
    assert second.to_lines() == whole.to_lines()


def test_evaluations_are_rows_of_their_own_and_leave_the_means_alone() -> None:
    log = TrainingLog(2)
    log.add(1, {"loss": 4.0})
    assert log.add_evaluation(1, {"perplexity": 12.3456789}) == {"step": 1, "heldout_perplexity": 12.34568}
    log.add(2, {"loss": 2.0})
    assert rows_of(log.to_lines()) == [{"step": 1, "heldout_perplexity": 12.34568}, {"step": 2, "loss": 3.0}]
    assert training_rows(log.rows) == [{"step": 2, "loss": 3.0}]
    assert evaluations(log.rows) == [{"step": 1, "heldout_perplexity": 12.34568}]
