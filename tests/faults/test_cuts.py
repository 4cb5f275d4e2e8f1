"""Connections to the database are cut wherever they may be, under load: what was acknowledged is counted, once.

Between a commit and its answer: tests/faults/test_database.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hitcounter.postgres import PrivatePostgres
from tests.faults.conftest import Trial
from tests.keyed import KeyedLoad
from tests.load import Load
from tests.proxy import CuttingProxy, Place
from tests.service import Service

PLACES = [place for place in Place if place is not Place.AFTER_COMMIT]


@pytest.fixture(params=PLACES, ids=[place.value for place in PLACES])
def proxy(request: pytest.FixtureRequest, database: PrivatePostgres, trial: Trial) -> Iterator[CuttingProxy]:
    with CuttingProxy(f"{database.socket_directory}/.s.PGSQL.5432", trial.seed, request.param) as running:
        yield running


@pytest.fixture
def service(tmp_path: Path, proxy: CuttingProxy) -> Iterator[Service]:
    with Service(tmp_path, DATABASE_URL=proxy.url, HITCOUNTER_WORKERS="2") as running:
        yield running


@pytest.mark.long
def test_a_connection_that_is_cut_loses_and_doubles_nothing(service: Service, proxy: CuttingProxy, trial: Trial):
    cuts = trial.times(30, 200)
    proxy.cutting = True
    with Load(service, "/api/cut/", trial.seed) as load:
        while proxy.cuts < cuts:
            load.wait_for(50)
    proxy.cutting = False
    service.wait_until_ready()
    told = f"{load.answers[503]:,} times 503"
    trial.settle(f"connection cut {proxy.place}", proxy.cuts, load, service, told)
    assert load.answers.keys() <= {200, 503}, load.answers


@pytest.mark.long
def test_batches_whose_connection_is_cut_are_counted_once_when_they_are_sent_again(
    service: Service, proxy: CuttingProxy, trial: Trial
):
    cuts = trial.times(30, 200)
    batches = KeyedLoad(service, "/cut/", trial.seed, connections=16)
    proxy.cutting = True
    batches.keep_sending(lambda: proxy.cuts >= cuts)
    proxy.cutting = False
    service.wait_until_ready()
    told = f"{batches.answers[503]:,} times 503"
    trial.settle(f"connection cut {proxy.place}, hits under keys", proxy.cuts, batches, service, told)
    assert batches.answers.keys() == {200, 503}, batches.answers
