"""The page suite: what is asked, what is counted, against which bounds."""

from __future__ import annotations

import pytest

from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.benchmarks.page import Answer, results_of, run
from fexgan_lit.utils.errors import UserError


def test_errors_are_counted_and_do_not_count_as_answers():
    answers = [Answer(0.2, 200), Answer(0.4, 200), Answer(1.6, 200), Answer(0.01, 503), Answer(9.0, 0)]
    answer, rate, errors, growth = results_of(answers, 99.0, 10.0)
    assert (answer.value.median, answer.met) == (0.4, True)
    assert rate.value.median == pytest.approx(0.3)
    assert (errors.value.median, errors.met) == (2, False)
    assert growth.met
    assert not results_of(answers[:1], 101.0, 1.0)[3].met
    with pytest.raises(UserError, match="none of 1 requests"):
        results_of(answers[4:], 0.0, 1.0)


@pytest.mark.fault
def test_many_people_get_their_faces(tmp_path):
    results, table = run(BenchmarkSettings(suite="page", quick=True), tmp_path, lambda *_: None)
    assert [row[0] for row in table.rows] == ["answer", "answers a second", "errors", "growth of memory"]
    assert results[1].value.median > 0
    assert results[2].value.median == 0
