"""The tables of this app, a module each noun."""

from modelhub.models.datasets import Dataset, DatasetKind, DatasetState
from modelhub.models.evaluations import EvaluatedSplit, Evaluation
from modelhub.models.jobs import JobState, TrainerJob
from modelhub.models.registry import Model, ModelVersion
from modelhub.models.searches import Search, SearchMethod
from modelhub.models.storage import Blob, BlobUse, DataKey, StorageAccrual
from modelhub.models.training import TrainingJob, TrainingLogLine
from modelhub.models.uploads import DatasetUpload, DatasetUploadPart, UploadMode, UploadState

__all__ = [
    "Blob",
    "BlobUse",
    "DataKey",
    "Dataset",
    "DatasetKind",
    "DatasetState",
    "DatasetUpload",
    "DatasetUploadPart",
    "EvaluatedSplit",
    "Evaluation",
    "JobState",
    "Model",
    "ModelVersion",
    "Search",
    "SearchMethod",
    "StorageAccrual",
    "TrainerJob",
    "TrainingJob",
    "TrainingLogLine",
    "UploadMode",
    "UploadState",
]
