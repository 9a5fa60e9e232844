"""Arrays of NumPy, which are what most large arguments and results are made of."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from every_backend import on_every_backend

from parapluie.testing import tasks
from parapluie.testing.claims import requires
from parapluie.testing.helpers import SECONDS

ARRAYS = {
    "small": np.arange(6).reshape(2, 3),
    "large": np.arange(300_000, dtype=float).reshape(3, -1),
    "by columns": np.asfortranarray(np.arange(300_000).reshape(3, -1)),
    "with gaps": np.arange(300_000)[::3],
    "empty": np.zeros((0, 3)),
    "no dimensions": np.array(4.5),
    "objects": np.array([{1: 2}, None], dtype=object),
    "records": np.zeros(20_000, dtype=[("number", "i4"), ("text", "U5")]),
}


class ArrayTests:
    @pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
    def test_array_travels_both_ways(self, executor, array):
        results = [executor.submit(tasks.same, array).result(SECONDS), *executor.map(tasks.same, [array] * 2)]
        for result in results:
            assert result.dtype == array.dtype and result.shape == array.shape and (result == array).all()
            assert result.flags.f_contiguous or not array.flags.f_contiguous
            assert result.flags.writeable

    @pytest.mark.parametrize("array", [np.ones(10), np.ones(100_000)], ids=["small", "large"])
    @requires("isolated_memory")
    def test_task_changes_its_own_copy(self, executor, array):
        result = executor.submit(tasks.add_one, array).result(SECONDS)
        result += executor.submit(tasks.add_one, result).result(SECONDS)
        assert (result == 5).all() and (array == 1).all()

    @requires("isolated_memory")
    def test_function_takes_arrays_along(self, executor):
        results = executor.map(partial(tasks.both, np.ones(50_000)), (np.full(n * 20_000, n) for n in range(5)))
        assert list(results) == [(50_000, n * n * 20_000) for n in range(5)]

    @requires("isolated_memory")
    def test_function_that_changes_its_array_does_so_for_itself(self, executor):
        counts = np.zeros(50_000)
        results = list(executor.map(partial(tasks.count_in, counts), range(20), chunksize=5))
        assert [result[0] for result in results] == list(range(20))
        assert all(
            1 <= count <= 5 for _, count in results
        )  # a chunk has one of its own, and each part that is taken back
        assert not counts.any()


globals().update(on_every_backend(ArrayTests))
