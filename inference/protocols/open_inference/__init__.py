"""The Open Inference Protocol v2, as Triton's and KServe's clients speak it."""

from inference.protocols.open_inference.infer import PROTOCOL
from inference.protocols.open_inference.views import ROUTES

__all__ = ["PROTOCOL", "ROUTES"]
