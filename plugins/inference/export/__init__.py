"""Write a trained model as a file that runs without this package: ONNX or torch.export.

Legend: B items of a batch, T frames of a clip, H x W the model's size, D feature length.
"""

from plugins.inference.export.build import Exported, export, require_packages
from plugins.inference.export.metadata import describe_export, read_threshold

__all__ = ["Exported", "describe_export", "export", "read_threshold", "require_packages"]
