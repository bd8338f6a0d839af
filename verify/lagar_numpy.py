#!/usr/bin/env python3
"""Reads a .lagar file with Python and NumPy alone, to check what it claims.

Written from FORMAT.md and nothing else: it shares no code with the program that writes the files.

  lagar_numpy.py FILE                                  checksums, tiers, sizes
  lagar_numpy.py FILE --against DIR|FILE.safetensors   every tensor at every tier beside the original
  lagar_numpy.py FILE --tensor NAME [--tier T] -o X.npy   one tensor (at `full`: its original bytes)

Exit code 0: all is as claimed; 1: something is not; 2: wrong usage.
"""

import argparse
import json
import os
import struct
import sys
import zlib

import numpy as np

MAGIC = b"\x89LAGAR\r\n"
UNIT = 4 << 20
ITEM = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}


class Damaged(Exception):
    """The file is not what it says."""


def need(condition, message):
    if not condition:
        raise Damaged(message)


# Checksums and hashes.


def crc32c_table():
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    return table


CRC_TABLE = crc32c_table()


def crc32c(data):
    """CRC32C, many stretches of the data side by side."""
    data = np.frombuffer(data, np.uint8)
    lanes = max(1, int(len(data) ** 0.5))
    width = len(data) // lanes
    # The CRC is linear: every lane starts from 0, the first one from the initial value.
    state = np.zeros(lanes, np.uint32)
    state[0] = 0xFFFFFFFF
    for column in data[: lanes * width].reshape(lanes, width).T:
        state = CRC_TABLE[(state ^ column) & 0xFF] ^ (state >> 8)
    # What `width` zero bytes do to each of the 32 bits of a state.
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(width):
        bits = CRC_TABLE[bits & 0xFF] ^ (bits >> 8)
    bits = [int(bit) for bit in bits]
    crc = 0
    for lane in state:
        shifted = 0
        for i in range(32):
            if crc >> i & 1:
                shifted ^= bits[i]
        crc = shifted ^ int(lane)
    for byte in data[lanes * width :]:
        crc = int(CRC_TABLE[(crc ^ int(byte)) & 0xFF]) ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


BLAKE3_IV = np.array(
    [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19], np.uint32
)
BLAKE3_ORDER = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8


def blake3_compress(chain, words, counter, length, flags):
    """Many compressions side by side: chain 8 × n, words 16 × n; returns the new chain, 8 × n."""
    n = chain.shape[1]
    v = np.empty((16, n), np.uint32)
    v[:8], v[8:12] = chain, BLAKE3_IV[:4, None]
    counter = np.asarray(counter, np.uint64)
    v[12], v[13] = (counter & np.uint64(0xFFFFFFFF)).astype(np.uint32), (counter >> np.uint64(32)).astype(np.uint32)
    v[14], v[15] = length, flags

    def rotate(x, by):
        return (x >> np.uint32(by)) | (x << np.uint32(32 - by))

    def mix(a, b, c, d, x, y):
        v[a] += v[b] + x
        v[d] = rotate(v[d] ^ v[a], 16)
        v[c] += v[d]
        v[b] = rotate(v[b] ^ v[c], 12)
        v[a] += v[b] + y
        v[d] = rotate(v[d] ^ v[a], 8)
        v[c] += v[d]
        v[b] = rotate(v[b] ^ v[c], 7)

    columns = [(i, i + 4, i + 8, i + 12) for i in range(4)]
    diagonals = [(i, (i + 1) % 4 + 4, (i + 2) % 4 + 8, (i + 3) % 4 + 12) for i in range(4)]
    for _ in range(7):
        for i, place in enumerate(columns + diagonals):
            mix(*place, words[2 * i], words[2 * i + 1])
        words = words[BLAKE3_ORDER]
    return v[:8] ^ v[8:]


def blake3(data):
    """The BLAKE3 hash of some bytes, as hexadecimal digits."""
    length = len(data)
    chunks = max(1, -(-length // 1024))
    padded = np.zeros(chunks * 1024, np.uint8)
    padded[:length] = np.frombuffer(data, np.uint8)
    words = padded.view("<u4").reshape(chunks, 16, 16)
    last = length - (chunks - 1) * 1024
    chain = np.repeat(BLAKE3_IV[:, None], chunks, axis=1)
    for block in range(16):
        # Of the last chunk only as many blocks as it has.
        live = np.full(chunks, True)
        live[-1] = block * 64 < max(1, last)
        sizes = np.full(chunks, 64, np.uint32)
        sizes[-1] = max(0, min(64, last - block * 64))
        flags = np.full(chunks, CHUNK_START if block == 0 else 0, np.uint32)
        flags[:-1] |= CHUNK_END if block == 15 else 0
        flags[-1] |= CHUNK_END if block == max(0, (last - 1) // 64) else 0
        if chunks == 1 and flags[0] & CHUNK_END:
            flags[0] |= ROOT
        made = blake3_compress(chain, words[:, block].T.copy(), np.arange(chunks), sizes, flags)
        chain = np.where(live, made, chain)
    # Neighbours are joined level by level; one without a neighbour goes up as it is.
    while chain.shape[1] > 1:
        pairs, odd = chain.shape[1] // 2, chain[:, chain.shape[1] // 2 * 2 :]
        flags = np.uint32(PARENT | (ROOT if chain.shape[1] == 2 else 0))
        words = np.concatenate([chain[:, 0 : 2 * pairs : 2], chain[:, 1 : 2 * pairs : 2]])
        start = np.repeat(BLAKE3_IV[:, None], pairs, axis=1)
        chain = np.concatenate([blake3_compress(start, words, np.zeros(pairs), 64, flags), odd], axis=1)
    return chain[:, 0].astype("<u4").tobytes().hex()


# The container.


class Lagar:
    """An open file: its index, and the tiers that are whole."""

    def __init__(self, path):
        self.file = np.memmap(path, np.uint8, "r") if os.path.getsize(path) else np.zeros(0, np.uint8)
        header = self.file[:64].tobytes()
        need(len(header) == 64 and header[:8] == MAGIC, "is no .lagar file")
        version, flags, at, stored, raw, self.data = struct.unpack_from("<2I4Q", header, 8)
        need(version in (1, 2, 3), f"has version {version}")
        index_crc, header_crc = struct.unpack_from("<I8xI", header, 48)
        need(crc32c(header[:60]) == header_crc, "the header's checksum is wrong")
        need(flags == 0 and at == 64 and self.data == -(-(64 + stored) // 4096) * 4096, "the header is malformed")
        index = self.file[64 : 64 + stored].tobytes()
        need(len(index) == stored and crc32c(index) == index_crc, "the index's checksum is wrong")
        index = zlib.decompress(index)
        need(len(index) == raw, "the index has another length than the header says")
        self.version, self.index = version, json.loads(index)
        self.tiers = [tier["name"] for tier in self.index["tiers"]]
        self.complete = sum(self.data + tier["end"] <= len(self.file) for tier in self.index["tiers"])
        need(self.complete > 0, "ends before its first tier does")
        self.full = self.tiers.index("full") if "full" in self.tiers else None
        self.tensors = {tensor["name"]: tensor for tensor in self.index["tensors"]}

    def tier_bytes(self, tier):
        return self.data + self.index["tiers"][tier]["end"]

    def part(self, number):
        """The bytes of a part."""
        part = self.index["parts"][number]
        need(part["tier"] < self.complete, f"tier {self.tiers[part['tier']]} is not whole")
        start = self.data + part["offset"]
        return self.file[start : start + part["bytes"]]

    def latest(self, parts, tier):
        """The last of the parts that a model of this tier may use; None if all belong to later ones."""
        usable = [p for p in parts if self.index["parts"][p]["tier"] <= tier]
        return usable[-1] if usable else None

    def check(self):
        """Checks the checksums of every part of the whole tiers, and the zeros between them."""
        end = self.data + 0
        for number, part in enumerate(self.index["parts"]):
            if part["tier"] >= self.complete:
                break
            start = self.data + part["offset"]
            need(start >= end and not self.file[end:start].any(), f"there is no padding before part {number}")
            data = self.part(number)
            sums = [crc32c(data[i : i + UNIT].tobytes()) for i in range(0, len(data), UNIT)]
            wrong = [i for i, (a, b) in enumerate(zip(sums, part["crc32c"])) if a != b]
            need(len(sums) == len(part["crc32c"]) and not wrong, f"part {number} is damaged in its 4 MiB pieces {wrong}")
            end = start + part["bytes"]

    def blob(self, blob):
        data = self.part(blob["part"]).tobytes()
        if blob["coding"] == "raw":
            out = data
        else:
            at, pieces = 0, []
            for length in blob["lengths"]:
                pieces.append(zlib.decompress(data[at : at + length]))
                at += length
            out = b"".join(pieces)
        need(len(out) == blob["bytes"], "a blob has another length than the index says")
        return out

    def stored_file(self, name):
        file = next(f for f in self.index["files"] if f["name"] == name)
        return zlib.decompress(self.part(file["part"]).tobytes())


# From codes to weights. All arithmetic is f32, one rounding an operation, in the order of FORMAT.md.


def levels_of(table):
    if "free" in table["levels"]:
        return np.array(table["levels"]["free"], np.float32)
    s, w = table["levels"]["split"], np.arange(256)
    a, b = np.array(s["a"])[w & 15], np.array(s["b"])[w >> 4]
    a, b = np.where(w >> s["a_sign_bit"] & 1, -a, a), np.where(w >> s["b_sign_bit"] & 1, -b, b)
    return (a + b).astype(np.float32)


SCALES = np.exp2(-np.arange(256) / 16).astype(np.float32)
SCALES[255] = 0


def bf16(data):
    return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)


def window_stage(lagar, stage, rows, cols, tier):
    """The matrix of a stage in transformed space, rows × padded columns."""
    table = lagar.index["tables"][stage["table"]]
    levels, depth, window = levels_of(table), table["depth"], table["window"]
    padded_rows, padded_cols = -(-rows // 16) * 16, -(-cols // 4) * 4
    codes, scale_codes = lagar.part(stage["codes"]), lagar.part(stage["scales"])
    row_scales = bf16(lagar.part(lagar.latest(stage["row_scales"], tier)))
    w, at, scale_at = np.zeros((padded_rows, padded_cols), np.float32), 0, 0
    for top in range(0, padded_rows, 256):
        height = min(256, padded_rows - top)
        for group, coded in enumerate(stage["depths"]):
            if coded == 0:
                continue
            left = 128 * group
            width = min(128, padded_cols - left)
            stream = codes[at : at + 1 + height * width * depth // 8].astype(np.uint32)
            # A window is at most 8 bits, so it lies in two neighbouring bytes.
            first = 8 + depth * np.arange(height * width) + depth - window
            pair = stream[first >> 3] | np.append(stream, 0)[(first >> 3) + 1] << 8
            windows = pair >> (first & 7).astype(np.uint32) & ((1 << window) - 1)
            tile = levels[windows].reshape(width // 4, height, 4).transpose(1, 0, 2).reshape(height, width)
            scales = SCALES[scale_codes[scale_at : scale_at + height]]
            w[top : top + height, left : left + width] = tile * scales[:, None]
            at, scale_at = at + len(stream), scale_at + height
    return (w * row_scales[:, None])[:rows]


def product(lagar, stage, rows, cols, tier):
    """The matrix of a low-rank stage in transformed space: every product and every sum is rounded."""
    v = window_stage(lagar, stage["v"], stage["rank"], cols, tier)
    u = window_stage(lagar, stage["u"], rows, stage["rank"], tier)
    w = np.zeros((rows, v.shape[1]), np.float32)
    for k in range(stage["rank"]):
        w += u[:, k : k + 1] * v[k]
    return w


def sparse_stage(lagar, stage, rows, cols):
    """The entries of a sparse stage in a matrix of zeros (−0, which changes nothing that it is added to)."""
    counts = lagar.part(stage["counts"]).view("<u2").astype(np.int64)
    gaps = lagar.part(stage["gaps"]).view("u1" if stage["gap_bytes"] == 1 else "<u2").astype(np.int64)
    values = lagar.part(stage["values"]).view("<f2").astype(np.float32)
    need(len(counts) == -(-rows // 16) * 16 and not counts[rows:].any(), "a sparse stage has entries in rows that do not exist")
    need(counts.sum() == len(gaps) == len(values), "a sparse stage has another number of entries than its counts say")
    need(np.isfinite(values).all(), "a value of a sparse stage is not finite")
    # Of every entry its row and its number in the row: by band, then by number, then by row.
    row = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    order = np.lexsort((row, number, row // 16))
    place = np.empty(len(row), np.int64)
    place[order] = np.arange(len(row))
    steps = np.cumsum(1 + gaps[place])
    before = np.concatenate([[0], steps])[np.cumsum(counts) - counts]
    column = steps - np.repeat(before, counts) - 1
    need((column < cols).all(), "a sparse stage has an entry behind the last column")
    s = np.full((rows, cols), -0.0, np.float32)
    s[row, column] = values[place]
    return s


def norm_of(size):
    """1/√size, rounded to f32."""
    return np.float32(1 / np.sqrt(np.float64(size)))


def untransform(lagar, transform, w):
    """Takes the rows of a matrix back from transformed space."""
    cols, start = transform["width"], 0
    while start < w.shape[1]:
        left = w.shape[1] - start
        size = 128 if left >= 128 else 1 << (left.bit_length() - 1)
        block, distance = w[:, start : start + size].copy(), 1
        while distance < size:
            pairs = block.reshape(len(w), -1, 2, distance)
            block = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
            distance *= 2
        w[:, start : start + size] = block.reshape(len(w), size) * norm_of(size)
        start += size
    permutation = lagar.part(transform["permutation"]).view("<u2" if cols <= 65536 else "<u4")
    negative = np.unpackbits(lagar.part(transform["signs"]), bitorder="little")[:cols] == 1
    matrix = np.empty((len(w), cols), np.float32)
    matrix[:, permutation] = np.where(negative, -w[:, :cols], w[:, :cols])
    return matrix


def floats(data, dtype):
    """Elements as f32, where the type has fewer bits, else as they are."""
    if dtype == "BF16":
        return bf16(np.frombuffer(data, np.uint8))
    kinds = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BOOL": "u1", "F8_E4M3": "u1", "F8_E5M2": "u1"}
    kind = kinds.get(dtype) or "<" + dtype[0].lower() + str(ITEM[dtype])
    return np.frombuffer(data, kind)


def tensor_at(lagar, tensor, tier):
    """A tensor as a model of this tier has it, below `full`; None if it has nothing there."""
    body, shape = tensor["body"], tensor["shape"]
    if body == "exact":
        return None
    if "raw" in body:
        part = lagar.latest(body["raw"]["parts"], tier)
        return None if part is None else floats(lagar.part(part), body["raw"]["dtype"]).reshape(shape)
    body = body["linear"]
    windows = [s["window"] for s in body["stages"] if "window" in s and s["window"]["tier"] <= tier]
    low_rank = [s["low_rank"] for s in body["stages"] if "low_rank" in s and s["low_rank"]["v"]["tier"] <= tier]
    sparse = [s["sparse"] for s in body["stages"] if "sparse" in s and s["sparse"]["tier"] <= tier]
    if not windows:
        return None
    w = window_stage(lagar, windows[0], *shape, tier)
    for stage in windows[1:]:
        w = w + window_stage(lagar, stage, *shape, tier)
    for stage in low_rank:
        w = w + product(lagar, stage, *shape, tier)
    matrix = untransform(lagar, lagar.index["transforms"][body["transform"]], w)
    for stage in sparse:
        matrix += sparse_stage(lagar, stage, *shape)
    return matrix


# The exact coder. FORMAT.md, "Coded tensors".

SLOTS, STATES, LEAST, CENTER, ZERO, ESCAPE, FAR = 4096, 32, 1 << 16, 127, 254, 255, 126
POWERS = [16777216, 15384775, 14107901, 12937002, 11863283, 10878678, 9975792, 9147842, 8388608]
STEPS = [16384, 13777, 11585, 9742]
# Type: bytes, bits of the high part's significand, low bits at most; exponent bias less that of f32, and mantissa bits.
CODED = {
    "BF16": (2, 8, 0, 0, 7), "F16": (2, 8, 3, 112, 10), "F32": (4, 8, 16, 0, 7),
    "F8_E4M3": (1, 4, 0, 120, 3), "F8_E5M2": (1, 3, 0, 112, 2),
}


def frequencies_of(profile, context, zero, escape):
    """Slots of the 256 symbols in a context."""

    def density(at):
        knot, part = at >> 16, at & 0xFFFF
        if knot + 1 >= len(profile):
            return 0
        fall = profile[knot] * 256 + ((profile[knot + 1] - profile[knot]) * part >> 8)
        eighths, part = fall >> 8, fall & 255
        i = eighths % 8
        return (POWERS[i] * (256 - part) + POWERS[i + 1] * part) >> 8 >> eighths // 8

    step = STEPS[context % 4] << context // 4
    densities = [density(j * step) for j in range(4 * (FAR + 1) + 4)]
    raw = [sum((4 - abs(j - 3)) * densities[abs(4 * d + j - 3)] for j in range(7)) for d in range(FAR + 1)]
    slots = SLOTS - zero - escape
    total = raw[0] + 2 * sum(raw[1:])
    kept = next((d for d in range(1, FAR + 1) if raw[d] * slots * 4 < total), FAR + 1)
    total = max(1, raw[0] + 2 * sum(raw[1:kept]))
    frequencies = [0] * 256
    for d in range(1, kept):
        frequencies[CENTER - d] = frequencies[CENTER + d] = max(1, (raw[d] * slots + total // 2) // total)
    frequencies[CENTER] = slots - sum(frequencies)
    need(frequencies[CENTER] > 0, "a profile does not fall from its middle")
    frequencies[ZERO], frequencies[ESCAPE] = zero, escape
    return frequencies


def slots_of(frequencies):
    """For each slot: symbol, slot less the symbol's first, and frequency, in one word."""
    need(sum(frequencies) == SLOTS, "frequencies do not add up")
    return np.concatenate(
        [np.uint32(s | f << 20) | np.arange(f, dtype=np.uint32) << np.uint32(8) for s, f in enumerate(frequencies)]
    )


class Model:
    """How a tensor is coded."""

    def __init__(self, data, rows, cols, dtype):
        self.dtype, self.rows, self.cols = dtype, rows, cols
        self.kind, self.low_bits = data[0], data[1] if len(data) > 1 else 0
        if self.kind == 1:
            depth, own, zero, escape = struct.unpack_from("<2B2H", data, 2)
            profile, at = [(i * i * 5909 + 8192) >> 14 for i in range(25)], 8
            if own:
                profile, at = list(data[8:33]), 33
            contexts = [frequencies_of(profile, c, zero, escape) for c in range(4 + 4 * depth)]
            self.depth, self.table = depth, np.concatenate([slots_of(f) for f in contexts])
            heads = [struct.unpack_from("<hB", data, at + 3 * i) for i in range(2)]
            bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=at + 6), bitorder="little").tolist()
            self.scales, place = [], 0
            for count, (middle, low) in zip((rows, cols), heads):
                if low == 255:
                    self.scales.append(np.full(count, middle, np.int32))
                    continue
                values = []
                for _ in range(count):
                    end = bits.index(0, place)
                    value = end - place << low | sum(bits[end + 1 + i] << i for i in range(low))
                    place = end + 1 + low
                    values.append(middle + (value >> 1 ^ -(value & 1)))
                self.scales.append(np.array(values, np.int32))
        elif self.kind == 2:
            count, escape = struct.unpack_from("<2H", data, 2)
            size = min(2, ITEM[dtype])
            self.values = np.frombuffer(data, f"<u{size}", count, 6).astype(np.uint32)
            given = np.frombuffer(data, "<u2", count, 6 + count * size).tolist()
            self.table = slots_of(given + [0] * (255 - count) + [escape])

    def places(self, first, last, predicted):
        """Where the weights of some rows are expected; `predicted` in rows × cols f32, or None."""
        bits = CODED[self.dtype][1]
        scale = np.clip(self.scales[0][first:last, None] + self.scales[1][None, :], 32, 1015)
        step, quarter = scale >> 2, scale & 3
        if predicted is None:
            predicted = np.zeros(scale.shape, np.float32)
        pattern = np.ascontiguousarray(predicted).view(np.uint32)
        rounded = ((pattern & np.uint32(0x7FFFFFFF)) + np.uint32(1 << (23 - bits))).astype(np.int64)
        hidden = 1 << (bits - 1)
        significand = rounded >> (24 - bits) & (hidden - 1) | hidden
        # By how many powers of two the step lies above the prediction's last digit.
        above = step + bits - 1 - (rounded >> 23)
        below = np.maximum(-above, 0)
        context = quarter + 4 * np.minimum(below, self.depth)
        sign = (pattern & np.uint32(0x80000000)).astype(np.int64)
        top = ((step + below - 143) << 23) + sign
        word = significand >> np.clip(above, 0, 31) | context << 12 | top & 0xFF800000
        return word.astype(np.uint32).ravel()


def run_states(jobs, bits):
    """Decodes chunks side by side. A job has `table`, `states`, `words` and either `places` or `count`; the result
    for each is, per weight, the bits of an f32 or 1 for a stored element, or for `count` the symbol."""
    sizes = [len(job["places"]) if "places" in job else job["count"] for job in jobs]
    groups, scaled = -(-max(sizes) // 16), "places" in jobs[0]
    work = np.zeros((len(jobs), groups * 16), np.uint32)
    if scaled:
        for row, job in zip(work, jobs):
            row[: len(job["places"])] = job["places"]
    sizes = np.array(sizes)[:, None]
    tables, bases = {}, []
    for job in jobs:
        bases.append(tables.setdefault(id(job["table"]), (len(tables), job["table"]))[0])
    starts = np.cumsum([0] + [len(table) for _, table in tables.values()])
    base = starts[bases][:, None].astype(np.uint32)
    table = np.concatenate([table for _, table in tables.values()])
    words = np.concatenate([job["words"] for job in jobs] + [np.zeros(64, np.uint16)]).astype(np.uint32)
    ends = np.cumsum([len(job["words"]) for job in jobs])
    at = (ends - [len(job["words"]) for job in jobs])[:, None]
    states = np.stack([job["states"] for job in jobs]).astype(np.uint32)
    one = np.uint32(1)

    def refill(s, live):
        nonlocal at
        low = (s < LEAST) & live
        order = np.cumsum(low, axis=1)
        read = words[np.minimum(at + order - 1, len(words) - 1)]
        at = at + order[:, -1:]
        return np.where(low, s << np.uint32(16) | read, s)

    for group in range(groups):
        here, lanes = slice(group * 16, group * 16 + 16), slice(group % 2 * 16, group % 2 * 16 + 16)
        live = np.arange(here.start, here.stop)[None, :] < sizes
        place, s = work[:, here], states[:, lanes]
        context = place & np.uint32(31 << 12) if scaled else np.uint32(0)
        entry = table[base + context + (s & np.uint32(4095))]
        popped = (entry >> np.uint32(20)) * (s >> np.uint32(12)) + (entry >> np.uint32(8) & np.uint32(4095))
        s = refill(np.where(live, popped, s), live)
        symbol = entry & np.uint32(255)
        if not scaled:
            work[:, here], states[:, lanes] = symbol, s
            continue
        special = symbol >= ZERO
        q = (place & np.uint32(255)).astype(np.int32) + symbol.astype(np.int32) - CENTER
        steps = np.where(special, 0, q ^ q >> 31).astype(np.uint32)
        digits = (steps << np.uint32(16) | s & np.uint32(0xFFFE)).astype(np.float32).view(np.uint32)
        left = np.clip((digits >> np.uint32(23)).astype(np.int32) - 126 - bits, 0, 16).astype(np.uint32)
        rest = (s >> np.uint32(16)) << left | s & (one << left) - one
        s = np.where(live & ~special, rest, s)
        cut = np.uint32(24 - bits)
        sign = q.astype(np.uint32) & np.uint32(0x80000000)
        pattern = (digits >> cut << cut) + (place & np.uint32(0xFF800000)) + sign
        work[:, here] = np.where(special, symbol - np.uint32(ZERO), pattern)
        states[:, lanes] = refill(s, live)
    need((at[:, 0] == ends).all() and (states == LEAST).all(), "a chunk does not end where it should")
    return [row[:size] for row, size in zip(work, sizes[:, 0])]


def high_of(pattern, dtype):
    """The high parts whose values are f32 of these bits."""
    size, _, _, bias, mantissa_bits = CODED[dtype]
    if bias == 0:
        return pattern >> np.uint32(16)
    width = 8 * size
    pattern = pattern.astype(np.int64)
    mantissa = pattern >> 23 - mantissa_bits & (1 << mantissa_bits) - 1
    exponent = (pattern >> 23 & 255) - bias
    subnormal = (mantissa | 1 << mantissa_bits) >> np.clip(1 - exponent, 0, 31)
    magnitude = np.where(exponent >= 1, exponent << mantissa_bits | mantissa, subnormal)
    return (pattern >> 31 << width - 1 | magnitude & (1 << width - 1) - 1).astype(np.uint32)


def bit_fields(data, count, bits):
    """`count` numbers of `bits` bits, the lowest bit first."""
    if bits == 0:
        return np.zeros(count, np.uint32)
    flat = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: count * bits].reshape(count, bits)
    return (flat.astype(np.uint32) << np.arange(bits, dtype=np.uint32)).sum(axis=1, dtype=np.uint32)


def coded_bytes(lagar, tensor, coded):
    """The original bytes of a coded tensor."""
    shape, dtype = tensor["shape"], tensor["dtype"]
    cols, rows = shape[-1], int(np.prod(shape[:-1], dtype=np.int64))
    size, bits, most_low, _, _ = CODED[dtype]
    model = Model(lagar.part(coded["model"]).tobytes(), rows, cols, dtype)
    lengths = lagar.part(coded["lengths"]).view("<u4").tolist()
    codes = lagar.part(coded["codes"]).tobytes()
    band = 16 * max(1, 65536 // (16 * cols))
    need(len(lengths) == -(-rows // band), f"tensor {tensor['name']} has another number of chunks")
    predicted = tensor_at(lagar, tensor, lagar.full - 1) if lagar.full > 0 else None
    pieces, jobs, at = [], [], 0
    for number, length in enumerate(lengths):
        first, last = number * band, min(rows, (number + 1) * band)
        weights, code = (last - first) * cols, codes[at : at + length]
        at += length
        if code[0] == 0:
            pieces.append(code[1:])
        elif code[0] == 1:
            pieces.append(code[1:] * weights)
        else:
            need(code[0] == 2 and model.kind != 0, f"tensor {tensor['name']}: chunk {number} is of unknown kind")
            stored = int.from_bytes(code[1:4], "little")
            a = 132 + stored * min(2, size)
            b = a + -(-weights * model.low_bits // 8)
            job = {
                "table": model.table,
                "states": np.frombuffer(code, "<u4", STATES, 4),
                "stored": np.frombuffer(code[132:a], f"<u{min(2, size)}"),
                "low": bit_fields(code[a:b], weights, model.low_bits),
                "words": np.frombuffer(code[b:], "<u2"),
            }
            if model.kind == 1:
                job["places"] = model.places(first, last, None if predicted is None else predicted[first:last])
            else:
                job["count"] = weights
            pieces.append(job)
            jobs.append(job)
    results = iter(run_states(jobs, bits) if jobs else [])
    for i, piece in enumerate(pieces):
        if isinstance(piece, bytes):
            continue
        result = next(results)
        if model.kind == 1:
            escaped, high = result == 1, high_of(result, dtype)
        else:
            escaped = result == ESCAPE
            high = model.values[np.minimum(result, len(model.values) - 1)]
        need(escaped.sum() == len(piece["stored"]), f"tensor {tensor['name']}: chunk {i} stores another number of elements")
        high = high.copy()
        high[escaped] = piece["stored"]
        low = piece["low"] << np.uint32(most_low - model.low_bits)
        element = high << np.uint32(16) | low if dtype == "F32" else high | low
        pieces[i] = element.astype(f"<u{size}").tobytes()
    return b"".join(pieces)


# The exact section.


def exact_bytes(lagar, tensor):
    """The original bytes of a tensor."""
    body = tensor["exact"]["body"]
    if body == "raw":
        data = lagar.part(lagar.latest(tensor["body"]["raw"]["parts"], lagar.full)).tobytes()
    elif "same" in body:
        data = exact_bytes(lagar, lagar.index["tensors"][body["same"]])
    elif "stored" in body:
        data = lagar.blob(body["stored"])
    else:
        data = coded_bytes(lagar, tensor, body["coded"])
    elements = int(np.prod(tensor["shape"], dtype=np.int64))
    need(len(data) == elements * ITEM[tensor["dtype"]], f"tensor {tensor['name']} has another length than its shape")
    return data


def file_bytes(lagar, file):
    """The original bytes of a file of the checkpoint."""
    pieces = []
    for segment in file.get("segments", []):
        (kind, value), = segment.items()
        if kind == "stored":
            pieces.append(lagar.stored_file(value))
        elif kind == "bytes":
            pieces.append(lagar.blob(value))
        else:
            pieces.append(exact_bytes(lagar, lagar.index["tensors"][value]))
    data = b"".join(pieces)
    need(len(data) == file["bytes"], f"file {file['name']} has another length than the index says")
    return data


# The command line.


def originals(path):
    """Name, dtype, shape and bytes of every tensor of a safetensors file, or of all those in a folder."""
    names = [path]
    if os.path.isdir(path):
        names = sorted(os.path.join(path, n) for n in os.listdir(path) if n.endswith(".safetensors"))
    tensors = {}
    for name in names:
        data = np.memmap(name, np.uint8, "r")
        length = int(data[:8].view("<u8")[0])
        header = json.loads(data[8 : 8 + length].tobytes())
        header.pop("__metadata__", None)
        for key, entry in header.items():
            first, last = entry["data_offsets"]
            tensors[key] = (entry["dtype"], entry["shape"], data[8 + length + first : 8 + length + last])
    return tensors


def describe(lagar):
    parameters = lagar.index["parameters"]
    print(f"{lagar.index['architecture']}, {parameters} parameters, format version {lagar.version}")
    for tier, name in enumerate(lagar.tiers):
        size = lagar.tier_bytes(tier)
        state = "" if tier < lagar.complete else "  (cut off)"
        print(f"  {name:5} {size:>14} bytes  {8 * size / max(1, parameters):7.3f} bits per parameter{state}")


def against(lagar, path):
    """Compares with the original; returns whether `full`, where there is one, is the same."""
    found, same = originals(path), True
    lossy = [t for t in range(lagar.complete) if t != lagar.full]
    print(f"{'tensor':48} {'dtype':8}" + "".join(f"{lagar.tiers[t]:>10}" for t in lossy) + "   full")
    for name in sorted(set(found) | set(lagar.tensors)):
        if name not in found or name not in lagar.tensors:
            same = False
            print(f"{name:48} is only in {'the original' if name in found else 'the pressed file'}")
            continue
        tensor, (dtype, shape, data) = lagar.tensors[name], found[name]
        columns = ""
        for tier in lossy:
            made = tensor_at(lagar, tensor, tier)
            if made is None:
                columns += f"{'–':>10}"
                continue
            truth = floats(data.tobytes(), dtype).reshape(shape).astype(np.float64)
            error = np.sqrt(((made - truth) ** 2).sum() / max((truth**2).sum(), 1e-300))
            columns += f"{error:10.5f}"
        verdict = ""
        if lagar.full is not None and lagar.full < lagar.complete:
            restored = exact_bytes(lagar, tensor)
            equal = restored == data.tobytes() and blake3(restored) == tensor["exact"]["blake3"]
            equal = equal and dtype == tensor["dtype"] and shape == tensor["shape"]
            same, verdict = same and equal, "   the same bits" if equal else "   DIFFERS"
        print(f"{name:48} {dtype:8}{columns}{verdict}")
    return same


def whole(lagar):
    """Rebuilds every file and compares hashes; returns whether all are right."""
    right = True
    for file in lagar.index["source"]:
        equal = blake3(file_bytes(lagar, file)) == file["blake3"]
        right = right and equal
        print(f"{file['name']:48} {file['bytes']:>14} bytes  {'as it was' if equal else 'DIFFERS'}")
    return right


def main():
    about, details = __doc__.split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=about, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", help="a .lagar file")
    parser.add_argument("--against", metavar="ORIGINAL", help="a checkpoint folder or safetensors file to compare with")
    parser.add_argument("--hashes", action="store_true", help="rebuild every original file and compare its BLAKE3 hash")
    parser.add_argument("--tensor", metavar="NAME", help="one tensor, written to the file of -o")
    parser.add_argument("--tier", help="of that tensor [default: the best in the file]")
    parser.add_argument("-o", "--output", metavar="FILE", help=".npy: numbers; any other name: bytes")
    args = parser.parse_args()
    if (args.tensor is None) != (args.output is None):
        parser.error("--tensor and -o go together")
    try:
        lagar = Lagar(args.file)
        lagar.check()
        if args.tensor is None:
            describe(lagar)
            print("checksums are right")
            good = True
            if args.hashes:
                need(lagar.full is not None and lagar.full < lagar.complete, "has no tier full")
                good = whole(lagar)
            if args.against:
                good = against(lagar, args.against) and good
            return 0 if good else 1
        need(args.tensor in lagar.tensors, f"has no tensor {args.tensor}")
        tensor = lagar.tensors[args.tensor]
        tier = lagar.tiers.index(args.tier) if args.tier in lagar.tiers else lagar.complete - 1
        if args.tier not in (None, lagar.tiers[tier]):
            parser.error(f"there is no tier {args.tier}; there are {', '.join(lagar.tiers)}")
        if tier == lagar.full:
            data = exact_bytes(lagar, tensor)
            values = floats(data, tensor["dtype"]).reshape(tensor["shape"])
        else:
            values = tensor_at(lagar, tensor, tier)
            need(values is not None, f"tensor {args.tensor} has nothing in tier {lagar.tiers[tier]}")
            data = values.tobytes()
        if args.output.endswith(".npy"):
            np.save(args.output, values)
        else:
            with open(args.output, "wb") as out:
                out.write(data)
        return 0
    except Damaged as damage:
        print(f"{args.file}: {damage}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
