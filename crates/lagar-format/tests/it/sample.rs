//! A small file with everything that a file can hold.

use lagar_format::{
    Body, Container, Dtype, Index, Levels, Limits, Region, SourceFile, Stage, TableRecord,
    TensorRecord, TransformRecord, WindowStage, Writer,
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
    });
    writer.tensor(TensorRecord {
        name: "model.norm.weight".to_owned(),
        shape: vec![300],
        dtype: Dtype::F32,
        body: Body::Raw {
            dtype: Dtype::BF16,
            parts: norm,
        },
    });
    writer.tensor(TensorRecord {
        name: "empty".to_owned(),
        shape: vec![0, 7],
        dtype: Dtype::F8E4M3,
        body: Body::Raw {
            dtype: Dtype::F8E4M3,
            parts: vec![empty],
        },
    });
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
