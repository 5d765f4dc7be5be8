"""Writes python.gguf with the PyPI package gguf (0.19.0): every kind of value, and tensors of three types. Needs: pip install gguf numpy."""

import os

import gguf
import numpy as np

w = gguf.GGUFWriter(os.path.join(os.path.dirname(os.path.abspath(__file__)), "python.gguf"), "llama")
w.add_uint8("t.u8", 200)
w.add_int8("t.i8", -100)
w.add_uint16("t.u16", 60000)
w.add_int16("t.i16", -30000)
w.add_uint32("t.u32", 4000000000)
w.add_int32("t.i32", -2000000000)
w.add_uint64("t.u64", 1 << 63)
w.add_int64("t.i64", -(1 << 62))
w.add_float32("t.f32", 0.5)
w.add_float64("t.f64", 0.1)
w.add_bool("t.yes", True)
w.add_bool("t.no", False)
w.add_string("t.text", "gr\u00fc\u00dfe \u4f60\u597d")
w.add_array("t.texts", ["a", "", "\u4e2d\u6587"])
w.add_array("t.ints", [1, -2, 3])
w.add_array("t.floats", [0.25, -1.5])
x = np.arange(64, dtype=np.float32).reshape(2, 32)
w.add_tensor("a.weight", x)
w.add_tensor("b.weight", x.astype(np.float16))
w.add_tensor("c.weight", gguf.quantize(x, gguf.GGMLQuantizationType.Q8_0), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
