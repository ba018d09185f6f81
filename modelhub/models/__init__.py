"""The tables of this app, a module each noun."""

from modelhub.models.datasets import Dataset, DatasetKind, DatasetState
from modelhub.models.registry import Model, ModelVersion
from modelhub.models.storage import Blob, BlobUse, DataKey, StorageAccrual
from modelhub.models.training import JobState, TrainingJob, TrainingLogLine
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
    "JobState",
    "Model",
    "ModelVersion",
    "StorageAccrual",
    "TrainingJob",
    "TrainingLogLine",
    "UploadMode",
    "UploadState",
]
