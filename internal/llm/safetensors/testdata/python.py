"""Writes python.safetensors with the PyPI package safetensors (0.8.0). Needs: pip install safetensors numpy."""

import os

import numpy as np
from safetensors.numpy import save_file

x = np.arange(12, dtype=np.float32).reshape(3, 4)
save_file(
    {"w": x, "h": x.astype(np.float16), "i": np.arange(3, dtype=np.int64), "s": np.array(5, np.float32), "e": np.zeros((0, 4), np.float32), "b": np.array([True, False])},
    os.path.join(os.path.dirname(os.path.abspath(__file__)), "python.safetensors"),
    metadata={"format": "pt", "note": "\u4f60\u597d"},
)
