"""Tests of lagar_numpy.py, and with it of the program: two readers of one format must agree, bit for bit.

  python verify/test_lagar_numpy.py [PATH-OF-LAGAR]     (default: target/release/lagar)
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import lagar_numpy as reader

ROOT = Path(__file__).resolve().parent.parent
LAGAR = ROOT / "target/release/lagar"
MODEL = ROOT / "assets/novels4m"


def lagar(*args):
    done = subprocess.run([LAGAR, *map(str, args), "--quiet"], capture_output=True, text=True)
    assert done.returncode == 0, f"{args}: {done.stderr}"
    return done.stdout


def write_safetensors(path, tensors, metadata=None):
    """`tensors`: name to (dtype, shape, bytes)."""
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(header)) + header + data)


class Readers(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def reads(self, *args):
        """The exit code and output of the reader, run as its users run it."""
        script = Path(__file__).with_name("lagar_numpy.py")
        done = subprocess.run([sys.executable, script, *map(str, args)], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def agree(self, model, tiers):
        """Presses a model, and compares every tensor at every tier with what the program makes of it."""
        file = self.folder / "model.lagar"
        lagar("press", model, "-o", file, "--tiers", tiers, "--tokens", 2048)
        code, said = self.reads(file, "--against", model)
        self.assertEqual(code, 0, said)
        self.assertIn("the same bits", said)
        pressed = reader.Lagar(file)
        for tier in range(pressed.full):
            exported = self.folder / f"export-{tier}"
            lagar("export", file, "-o", exported, "--tier", pressed.tiers[tier], "--dtype", "f32")
            original = reader.originals(str(exported))
            self.assertGreater(len(original), 0)
            for name, (dtype, shape, data) in original.items():
                made = reader.tensor_at(pressed, pressed.tensors[name], tier)
                self.assertEqual(dtype, "F32")
                self.assertEqual(made.astype(np.float32).tobytes(), data.tobytes(), f"{name} at {pressed.tiers[tier]}")
        return file

    def test_hashes_and_checksums_are_those_of_their_definitions(self):
        self.assertEqual(reader.crc32c(b"123456789"), 0xE3069283)
        for length, digits in [
            (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
            (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
            (1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"),
            (1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"),
            (102400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"),
        ]:
            self.assertEqual(reader.blake3(bytes(i % 251 for i in range(length))), digits)

    def test_sparse_and_low_rank_stages_are_read_as_the_program_reads_them(self):
        # The program's own test of this file, in lagar-engine, expects the same checksum.
        file = ROOT / "crates/lagar-format/tests/golden/version3.lagar"
        pressed = reader.Lagar(file)
        weights = reader.tensor_at(pressed, pressed.tensors["model.layers.0.mlp.up_proj.weight"], 1)
        self.assertEqual(f"{reader.crc32c(weights.tobytes()):08x}", "d9de6c85")

    def test_two_stages_and_the_exact_section(self):
        file = self.agree(MODEL, "2,2+exact")
        out = self.folder / "norm.npy"
        self.assertEqual(self.reads(file, "--tensor", "model.norm.weight", "--tier", "R", "-o", out)[0], 0)
        self.assertEqual(np.load(out).shape, (256,))

    def test_three_stages_of_other_depths(self):
        self.agree(MODEL, "3,1,1+exact")

    def test_any_bits_of_any_type(self):
        random = np.random.default_rng(5)
        tensors = {}
        for dtype, size in reader.ITEM.items():
            for shape in ([3, 7], [300, 40], [2, 5, 33], [17], [], [0, 4]):
                count = int(np.prod(shape, dtype=int)) * size
                tensors[f"{dtype} {shape}"] = (dtype, shape, random.bytes(count))
            tensors[f"{dtype} zeros"] = (dtype, [64, 64], bytes(4096 * size))
        weights = (random.standard_normal((200, 120)) * random.lognormal(0, 1, (200, 1))).astype(np.float32)
        special = weights.copy()
        special.flat[::97] = np.tile([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45, -1e-40], 40)[: len(special.flat[::97])]
        for name, values in ("plain", weights), ("special", special):
            tensors[f"f32 {name}"] = ("F32", [200, 120], values.tobytes())
            tensors[f"bf16 {name}"] = ("BF16", [200, 120], (values.view(np.uint32) >> 16).astype("<u2").tobytes())
            with np.errstate(over="ignore"):
                tensors[f"f16 {name}"] = ("F16", [200, 120], values.astype("<f2").tobytes())
        # As an f32 of bf16 values has them: low bits that are all zero.
        tensors["f32 short"] = ("F32", [200, 120], (weights.view(np.uint32) & 0xFFFF0000).tobytes())
        few = np.array([0x38, 0x40, 0xB8, 0x00], np.uint8)[random.integers(0, 4, 20000)]
        tensors["f8 few values"] = ("F8_E4M3", [100, 200], few.tobytes())
        source = self.folder / "source"
        (source / "sub").mkdir(parents=True)
        write_safetensors(source / "odd.safetensors", tensors, {"made": "by hand"})
        (source / "README").write_text("some text\n" * 1000)
        (source / "sub/empty").write_bytes(b"")
        file = self.folder / "odd.lagar"
        lagar("press", source, "-o", file, "--tiers", "exact")
        code, said = self.reads(file, "--hashes", "--against", source / "odd.safetensors")
        self.assertEqual(code, 0, said)
        self.assertEqual(said.count("the same bits"), len(tensors), said)

    def test_damage_is_found(self):
        file = self.folder / "model.lagar"
        lagar("press", MODEL, "-o", file, "--tiers", "1+exact", "--tokens", 512)
        good = file.read_bytes()
        for place in (3, 70, len(good) // 10, len(good) // 2, len(good) - 5):
            bad = bytearray(good)
            bad[place] ^= 4
            file.write_bytes(bad)
            code, said = self.reads(file)
            self.assertEqual(code, 1, f"byte {place}: {said}")
        file.write_bytes(good[: len(good) - 1])
        code, said = self.reads(file)
        self.assertEqual(code, 0, said)
        self.assertIn("cut off", said)


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        LAGAR = Path(sys.argv.pop(1)).resolve()
    if not os.access(LAGAR, os.X_OK):
        sys.exit(f"{LAGAR} is not there: cargo build --release, or name the program")
    unittest.main()
