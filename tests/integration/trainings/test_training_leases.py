"""The worker's way from a hint to a training, on a real Postgres that loses answers."""

import pytest
from sqlalchemy.exc import OperationalError

from tests.conftest import SessionFactory
from tests.integration.database.cutting_proxy import Cut, CuttingProxy
from tests.integration.trainings.site import Site


@pytest.mark.parametrize("cut", Cut)
def test_training_claim_whose_commit_gets_no_answer_consumes_no_attempt(
    cut: Cut, site: Site, proxy: CuttingProxy, far_sessions: SessionFactory
) -> None:
    created = site.ask(site.add_sweep(), {"by": "rank", "count": 1})
    training_id = created["trainings"][0]["id"]
    trainer = site.worker(far_sessions)
    proxy.cut = cut
    with pytest.raises(OperationalError):
        trainer.train(training_id)
    assert proxy.cuts == 1
    training = site.client.get_training(training_id)
    assert (training["status"], training["attempt"]) == ("pending", 0)
    assert site.scalar("SELECT count(*) FROM leases WHERE ended_at IS NULL") == 0
    trainer.train(training_id)
    training = site.client.get_training(training_id)
    assert (training["status"], training["attempt"]) == ("completed", 1)
