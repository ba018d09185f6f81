"""One attempt at one evaluation: what differs from a training's."""

import json
import logging
from dataclasses import replace
from decimal import Decimal

from django.conf import settings
from django.utils import timezone

from modelhub import artifacts, datasets, evaluations, storage, training_requests
from modelhub.models import Evaluation
from modelhub.trainer.brief import limits_of
from modelhub.trainer.evaluation_task import RESULT_FILE, EvaluationTask
from modelhub.trainer.process import Limits
from modelhub.trainer.runner import Run
from modelhub.trainer.task import Item
from tenants import scoping

# What a training goes on from, and serving never reads.
NOT_SERVED = (".keras", ".npz")

logger = logging.getLogger(__name__)


class EvaluationRun(Run):
    """Runs the version's served file over the data set; what the child logs is for the operator."""

    what = "evaluation"
    module = "modelhub.trainer.evaluation_child"

    def _prepared(self, paid: Decimal | None) -> Limits:
        task = self._task(self._job)
        task.write(self._folder)
        limits = limits_of(self._job, paid, what=self.what, advice="")
        return replace(limits, too_long=limits.too_long and f"{limits.too_long}. It is not billed.")

    def _task(self, job: Evaluation) -> EvaluationTask:
        """All that the child is told; the files are on this machine then, which may take its time."""
        manifest = job.version.manifest
        items = evaluations.items_of(job.dataset, job.split)
        return EvaluationTask(
            recipe=job.version.recipe,
            kind=job.dataset.kind,
            manifest=manifest,
            files={
                name: str(
                    artifacts.checked_path(
                        tenant_id=job.tenant_id, manifest=manifest, manifest_seal=job.version.manifest_seal, file=name
                    )
                )
                for name in manifest["files"]
                if not name.endswith(NOT_SERVED)
            },
            items=[self._fetched(item) for item in items],
            rows=training_requests.rows_of(items),
            slices=job.slices,
            max_pixels=settings.PICTURE_MAX_PIXELS,
        )

    def _fetched(self, item: datasets.Item) -> Item:
        self._report()
        file = storage.local_path(tenant_id=self._job.tenant_id, sha256=item.sha256)
        return Item(str(file), item.name, target=item.target, group=item.group, facts=item.facts)

    def _put_back(self) -> None:
        self._queue.put_back(hold=self._hold)

    def _write_down(self) -> None:
        told = self._told
        for _, _, text in told.lines:
            logger.info("%s: %s", self._job.pk, text)
        told.lines.clear()
        with scoping.operator():
            self._stop = self._queue.renew(hold=self._hold, progress=told.progress)

    def _succeed(self, seconds: Decimal) -> None:
        """What was found, the end, its seconds on the bill and the audit row, all in the caller's transaction."""
        found = json.loads((self._folder / RESULT_FILE).read_text())
        now = timezone.now()
        job = self._queue.lock(hold=self._hold)
        if job.cancel_requested_at is None:
            evaluations.succeed(
                hold=self._hold, seconds=seconds, result=found["result"], mistakes=found["mistakes"], now=now
            )
        else:
            self._queue.cancelled(hold=self._hold, seconds=seconds, now=now)
