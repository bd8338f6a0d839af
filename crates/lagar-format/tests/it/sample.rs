//! A small file with everything that a file can hold.

use lagar_format::{
    Blob, Body, Coding, Container, Dtype, Exact, ExactBody, Index, Levels, Limits, LowRankStage,
    PIECE_BYTES, Region, Segment, SourceFile, SparseStage, Stage, TableRecord, TensorRecord,
    TransformRecord, WindowStage, Writer, compress,
};

/// Bytes that differ from part to part and from place to place.
fn fill(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i * 31 + seed * 101 + i / 7 + 1) as u8)
        .collect()
}

/// Tiles of these lengths: each a zero byte and a stream, and zeros behind the last.
fn codes(seed: usize, tiles: &[usize]) -> Vec<u8> {
    let mut codes = Vec::new();
    for &len in tiles {
        codes.push(0);
        codes.extend(fill(seed + len, len));
    }
    codes.extend([0; 64]);
    codes
}

/// Row scales as bf16, from 1 on.
fn row_scales(rows: u16) -> Vec<u8> {
    (0..rows)
        .flat_map(|row| (0x3f80 + 3 * row).to_le_bytes())
        .collect()
}

/// Two tiers: a linear of 20 × 300 in two stages, a norm that the second tier replaces, a file.
pub(crate) fn writer() -> Writer {
    let mut writer = Writer::new(Index {
        id: "sample".to_owned(),
        producer: "lagar 0.1.0".to_owned(),
        architecture: "LlamaForCausalLM".to_owned(),
        parameters: 6300,
        settings: [("bits", "2,1"), ("seed", "0")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        source: vec![SourceFile {
            name: "model.safetensors".to_owned(),
            bytes: 12_700,
            blake3: "0123456789abcdef".repeat(4),
            segments: Vec::new(),
        }],
        ..Index::default()
    });
    writer.begin_tier("R");
    writer.file("config.json", br#"{"architectures": ["LlamaForCausalLM"]}"#);
    let transform = TransformRecord {
        width: 300,
        permutation: writer.part(
            (0..300u16)
                .rev()
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<_>>(),
        ),
        signs: writer.part(fill(2, 38)),
    };
    let transform = writer.transform(transform);
    let split = TableRecord {
        depth: 2,
        window: 8,
        levels: Levels::Split {
            a: std::array::from_fn(|i| i as i8 * 2),
            b: std::array::from_fn(|i| i as i8 - 8),
            a_sign_bit: 5,
            b_sign_bit: 0,
        },
    };
    let ternary = TableRecord {
        depth: 1,
        window: 1,
        levels: Levels::Free(vec![-1, 1]),
    };
    let mut norm = vec![writer.part(fill(3, 600))];
    // 32 padded rows; two of the three groups are coded: 128 and 44 columns.
    let first = WindowStage {
        tier: 0,
        table: writer.table(split),
        depths: vec![2, 0, 2],
        codes: writer.part(codes(4, &[32 * 128 * 2 / 8, 32 * 44 * 2 / 8])),
        scales: writer.part(fill(5, 64)),
        row_scales: vec![writer.part(row_scales(32))],
    };
    let empty = writer.part(Vec::new());
    let tier = writer.begin_tier("RG");
    let second = WindowStage {
        tier,
        table: writer.table(ternary),
        depths: vec![0, 1, 0],
        codes: writer.part(codes(7, &[32 * 128 / 8])),
        scales: writer.part(fill(8, 32)),
        row_scales: vec![writer.part(row_scales(32))],
    };
    norm.push(writer.part(fill(10, 600)));
    writer.tensor(TensorRecord {
        name: "model.layers.0.mlp.up_proj.weight".to_owned(),
        shape: vec![20, 300],
        dtype: Dtype::BF16,
        body: Body::Linear {
            transform,
            stages: [first, second].map(Stage::Window).into(),
        },
        exact: None,
    });
    writer.tensor(TensorRecord {
        name: "model.norm.weight".to_owned(),
        shape: vec![300],
        dtype: Dtype::F32,
        body: Body::Raw {
            dtype: Dtype::BF16,
            parts: norm,
        },
        exact: None,
    });
    writer.tensor(TensorRecord {
        name: "empty".to_owned(),
        shape: vec![0, 7],
        dtype: Dtype::F8E4M3,
        body: Body::Raw {
            dtype: Dtype::F8E4M3,
            parts: vec![empty],
        },
        exact: None,
    });
    writer
}

/// The sample with stages of every kind: its linear has a sparse and a low-rank one in the second tier.
pub(crate) fn kinds_writer() -> Writer {
    let mut writer = writer();
    let table = writer.table(TableRecord {
        depth: 8,
        window: 8,
        levels: Levels::Free((0..=255u8).map(|i| i.wrapping_sub(128) as i8).collect()),
    });
    // Three entries in row 0, one in row 17.
    let mut counts = vec![0u8; 64];
    (counts[0], counts[34]) = (3, 1);
    let sparse = SparseStage {
        tier: 1,
        gap_bytes: 1,
        counts: writer.part(counts),
        gaps: writer.part(vec![200, 0, 97, 7]),
        values: writer.part(
            [0x3c00u16, 0xbc00, 0x7bff, 1]
                .map(u16::to_le_bytes)
                .concat(),
        ),
    };
    let v = WindowStage {
        tier: 1,
        table,
        depths: vec![8; 3],
        codes: writer.part(codes(11, &[16 * 128, 16 * 128, 16 * 44])),
        scales: writer.part(fill(12, 48)),
        row_scales: vec![writer.part(row_scales(16))],
    };
    let u = WindowStage {
        tier: 1,
        table,
        depths: vec![8],
        codes: writer.part(codes(13, &[32 * 16])),
        scales: writer.part(fill(14, 32)),
        row_scales: vec![writer.part(row_scales(32))],
    };
    let Body::Linear { stages, .. } = &mut writer.index_mut().tensors[0].body else {
        panic!("the first tensor is a linear");
    };
    stages.push(Stage::Sparse(sparse));
    stages.push(Stage::LowRank(LowRankStage { rank: 16, v, u }));
    writer
}

/// The sample with an exact section: a tensor of each kind of body, files of each kind of segment.
pub(crate) fn exact_writer() -> Writer {
    let mut writer = writer();
    writer.begin_tier("full");
    let blob = |writer: &mut Writer, seed, len: usize| Blob {
        part: writer.part(fill(seed, len)),
        bytes: len as u64,
        coding: Coding::Raw,
        lengths: Vec::new(),
    };
    let header = blob(&mut writer, 20, 200);
    let norm = blob(&mut writer, 21, 1200);
    let empty = blob(&mut writer, 22, 0);
    let odd = blob(&mut writer, 23, 24);
    let raw = blob(&mut writer, 24, 5);
    let long: Vec<u8> = (0..PIECE_BYTES as usize + 1000)
        .map(|i| (i >> 12) as u8)
        .collect();
    let streams: Vec<Vec<u8>> = long.chunks(PIECE_BYTES as usize).map(compress).collect();
    let readme = Blob {
        part: writer.part(streams.concat()),
        bytes: long.len() as u64,
        coding: Coding::Zlib,
        lengths: streams.iter().map(|stream| stream.len() as u64).collect(),
    };
    // One chunk of 20 rows × 300 columns.
    let coded = ExactBody::Coded {
        model: writer.part(fill(25, 7)),
        lengths: writer.part(77u32.to_le_bytes().to_vec()),
        codes: writer.part(fill(26, 77)),
    };
    let mut tensor = |name: &str, shape: &[u64], dtype, body| {
        writer.tensor(TensorRecord {
            name: name.to_owned(),
            shape: shape.to_vec(),
            dtype,
            body,
            exact: None,
        });
    };
    tensor("counts", &[3], Dtype::I64, Body::Exact);
    tensor("tied", &[20, 300], Dtype::BF16, Body::Exact);
    let of_its_own = Body::Raw {
        dtype: Dtype::U8,
        parts: vec![raw.part],
    };
    tensor("raw", &[5], Dtype::U8, of_its_own);
    let index = writer.index_mut();
    let exact = [
        ("aa", coded),
        ("bb", ExactBody::Stored(norm)),
        ("cc", ExactBody::Stored(empty)),
        ("dd", ExactBody::Stored(odd)),
        ("aa", ExactBody::Same(0)),
        ("ee", ExactBody::Raw),
    ];
    for (tensor, (hash, body)) in index.tensors.iter_mut().zip(exact) {
        tensor.exact = Some(Exact {
            blake3: hash.repeat(32),
            body,
        });
    }
    let mut segments = vec![Segment::Bytes(header)];
    segments.extend([4, 1, 3, 0, 2, 5].map(Segment::Tensor));
    index.source[0].bytes = 200 + 12_000 + 1200 + 24 + 12_000 + 5;
    index.source[0].segments = segments;
    for (name, bytes, segment) in [
        (
            "config.json",
            39,
            Some(Segment::Stored("config.json".to_owned())),
        ),
        (
            "docs/README.md",
            long.len() as u64,
            Some(Segment::Bytes(readme)),
        ),
        ("docs/empty", 0, None),
    ] {
        index.source.push(SourceFile {
            name: name.to_owned(),
            bytes,
            blake3: "f".repeat(64),
            segments: segment.into_iter().collect(),
        });
    }
    writer
}

/// The bytes that the writer writes.
pub(crate) fn write(writer: Writer) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample.lagar");
    let bytes = writer.write(&path).unwrap();
    let file = std::fs::read(&path).unwrap();
    assert_eq!(bytes, file.len() as u64);
    file
}

pub(crate) fn open(file: Vec<u8>) -> Result<Container, lagar_format::FormatError> {
    Container::from_region(Region::from_vec(file), &Limits::default())
}

/// Opens a file and checks every byte of all the tiers it holds.
pub(crate) fn open_and_check(file: Vec<u8>) -> Result<Container, lagar_format::FormatError> {
    let container = open(file)?;
    container.check(container.tiers_complete() - 1, |_, _| {})?;
    Ok(container)
}

/// Reads every part and file, and checks all tiers, whatever comes of it.
pub(crate) fn read_all(container: &Container) {
    for id in 0..container.index().parts.len() {
        let _ = container.part(id);
    }
    for file in &container.index().files {
        let _ = container.file(&file.name);
    }
    let _ = container.check(container.tiers_complete() - 1, |_, _| {});
}
