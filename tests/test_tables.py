"""The generated tables of the docs are what the kit says today."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from parapluie import builtin
from parapluie.backend import Capabilities
from parapluie.facts import FACTS
from parapluie.testing import tables

ROOT = Path(__file__).parents[1]


def test_tables_name_every_fact_and_every_built_in_backend():
    assert set(FACTS) == set(Capabilities._fields)
    assert set(tables.BUILT_IN) == {info.name for info in builtin.BACKENDS}


def test_readme_says_what_backends_claim():
    wanted = tables.claims(tables.BUILT_IN).strip()
    assert tables.Page(ROOT / "README.md", "claims", tables.BUILT_IN).text.strip() == wanted


@pytest.mark.skipif(sys.platform != "linux", reason="the page is of Linux, where crashes are signals")
@pytest.mark.deadline(120)
def test_page_of_faults_says_what_becomes_of_them():
    wanted = tables.faults(tables.BUILT_IN).strip()
    assert "hang" not in wanted and "lost:" not in wanted, wanted
    assert tables.Page(ROOT / "docs/faults.md", "faults", tables.BUILT_IN).text.strip() == wanted
