"""The head for onnxruntime. Needs the packages of the extra `onnx`."""

from __future__ import annotations

import logging
import warnings

import torch

from evaluation.shield.head import Head, Judged
from immuno_core.errors import SetupError


def head_as_onnx(head: Head) -> bytes:
    """Return the head as an ONNX model: input "embeddings" (batch, d) float32, outputs named as the fields of Judged.

    Any batch from 1 on. Raises SetupError where the extra is not installed.
    """
    try:
        import onnxscript  # noqa: F401 - what torch writes ONNX with
    except ImportError:
        raise SetupError("ONNX needs packages that are not installed: pip install 'immuno-vlm[onnx]'") from None
    rows = torch.nn.functional.normalize(torch.ones(2, head.dim), dim=1)
    log = logging.getLogger("torch.onnx")
    level = log.level
    try:
        log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's exporter about itself
            program = torch.onnx.export(
                head,
                (rows,),
                dynamo=True,
                dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1)}},
                input_names=["embeddings"],
                output_names=list(Judged._fields),
                verbose=False,
            )
    finally:
        log.setLevel(level)
    if program is None:
        raise SetupError("torch could not write the head as ONNX")
    content: bytes = program.model_proto.SerializeToString()
    return content
