#!/usr/bin/env python3
"""Sizes of a checkpoint under zstd -19 and zipnn, in bits per parameter.

  pip install zipnn zstandard numpy torch
  python bench/compare/lossless.py CHECKPOINT-FOLDER
"""

import json
import struct
import sys
from pathlib import Path

import zipnn
import zstandard

NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def main(folder):
    parameters = stored = zipped = 0
    for path in sorted(Path(folder).glob("*.safetensors")):
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        kinds = {entry["dtype"] for entry in header.values()}
        if len(kinds) != 1 or not kinds <= NAMES.keys():
            sys.exit(f"{path}: tensors of one type out of {', '.join(NAMES)} are needed, not {kinds}")
        for entry in header.values():
            count = 1
            for size in entry["shape"]:
                count *= size
            parameters += count
        coder = zipnn.ZipNN(bytearray_dtype=NAMES[kinds.pop()], input_format="byte")
        zipped += len(coder.compress(bytearray(data[8 + length :])))
        stored += len(zstandard.ZstdCompressor(level=19).compress(data))
    print(f"zstd -19: {8 * stored / parameters:.3f} bits per parameter")
    print(f"zipnn:    {8 * zipped / parameters:.3f} bits per parameter")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
