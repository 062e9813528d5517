"""How far a 95 % interval reaches: against the table in every book of statistics."""

from __future__ import annotations

import numpy as np
import pytest

from trainlab.student import student


def test_students_t():
    freedom, reach = (1, 2, 3, 4, 5, 10, 15, 63), (12.706, 4.303, 3.182, 2.776, 2.571, 2.228, 2.131, 1.998)
    assert student(np.array(freedom)) == pytest.approx(np.array(reach), rel=2e-3)
    assert student(np.inf) == pytest.approx(1.959964)
    assert np.isnan(student(np.array([0, 0.5, np.nan]))).all()


def test_fractions_lie_between():
    some = student(np.linspace(1, 12, 100))
    assert (np.diff(some) < 0).all()
