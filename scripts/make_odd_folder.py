"""A small folder of odd but valid safetensors, for the tests of the exact section.

Run it as `python scripts/make_odd_folder.py crates/lagar-press/tests/fixtures/odd`. It needs numpy, torch
and safetensors; the result is committed, so that tests need none of them.
"""

import json
import pathlib
import struct
import sys

import numpy as np
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
(folder / "sub" / "deeper").mkdir(parents=True, exist_ok=True)
torch.manual_seed(1)
random = np.random.default_rng(1)


def bits(count, dtype):
    return np.frombuffer(random.bytes(count * np.dtype(dtype).itemsize), dtype)


# Every type that torch can save, any bits.
tensors = {}
for dtype, raw in [
    (torch.bfloat16, np.uint16),
    (torch.float16, np.uint16),
    (torch.float32, np.uint32),
    (torch.float64, np.uint64),
    (torch.float8_e4m3fn, np.uint8),
    (torch.float8_e5m2, np.uint8),
]:
    name = str(dtype).removeprefix("torch.")
    for shape in [(32, 33), (3, 5, 7, 11), (40,), (), (0, 8), (1, 1)]:
        count = int(np.prod(shape, dtype=np.int64))
        values = torch.from_numpy(bits(count, raw).copy()).view(dtype).reshape(shape)
        tensors[f"{name}.{'x'.join(map(str, shape)) or 'scalar'}"] = values
    tensors[f"{name}.normal"] = torch.randn(48, 64).to(dtype)
    tensors[f"{name}.same"] = torch.full((48, 64), -0.0).to(dtype)
for dtype in [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool]:
    name = str(dtype).removeprefix("torch.")
    tensors[f"{name}.counted"] = torch.arange(900).to(dtype).reshape(30, 30)
save_file(tensors, folder / "every type.safetensors", metadata={"format": "pt", "note": "ü \" \n"})
save_numpy({"u16": bits(700, np.uint16).reshape(7, 100), "u32": bits(9, np.uint32), "u64": bits(3, np.uint64)},
           folder / "sub" / "numpy.safetensors")

# The same names with other bytes, in another folder; and the same bytes under another name.
save_file({"normal": torch.randn(48, 64).bfloat16(), "tied": tensors["bfloat16.normal"].clone()},
          folder / "sub" / "deeper" / "model.safetensors")
save_file({"normal": torch.randn(48, 64).bfloat16()}, folder / "sub" / "model.safetensors")


def by_hand(path, header, data):
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


# Whitespace, an order of names that is not that of the bytes, control characters in a name, a shape of nine
# dimensions, padding that is no multiple of eight.
entries = {
    "z": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
    "__metadata__": {"a": "b"},
    "a\u001b[2J": {"dtype": "I16", "shape": [2, 1], "data_offsets": [3, 7]},
    "nine": {"shape": [1, 1, 1, 1, 1, 1, 1, 1, 4], "data_offsets": [7, 15], "dtype": "BF16"},
    "b/../c": {"dtype": "BF16", "shape": [16, 40], "data_offsets": [15, 1295]},
}
shuffled = dict(reversed(list(entries.items())))
by_hand(folder / "by hand.safetensors", json.dumps(shuffled, indent=3).encode() + b" \n\t   ",
        random.bytes(15) + torch.randn(640).bfloat16().view(torch.uint8).numpy().tobytes())
by_hand(folder / "empty.safetensors", b"{}", b"")
# What only pretends to be safetensors.
(folder / "broken.safetensors").write_bytes(b"\xff" * 100)
(folder / "cut off.safetensors").write_bytes(struct.pack("<Q", 1 << 40))
(folder / "nothing.safetensors").write_bytes(b"")
(folder / "sub" / "empty file").write_bytes(b"")
(folder / "README.md").write_text("# odd\n" + "the same line again\n" * 400)
(folder / "random.bin").write_bytes(random.bytes(5000))
(folder / "config.json").write_text('{ "architectures" : [ "Odd" ]}\n')
