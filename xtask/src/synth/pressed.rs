//! A pressed file of random codes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lagar_codec::{StageLayout, Table};
use lagar_engine::ModelSpec;
use lagar_format::{
    Body, Dtype, Index, Levels, PartSource, Stage, TableRecord, TensorRecord, TransformRecord,
    WindowStage, Writer,
};

use super::SmallFile;
use super::shape::Shape;
use crate::random::Random;

/// The window of trellis codes.
const WINDOW: u8 = 8;
const TIERS: [&str; 3] = ["R", "RG", "RGB"];

/// Writes the file.
pub(super) fn write(
    file: &Path,
    shape: &Shape,
    files: &[SmallFile],
    bits: &[u8],
    seed: u64,
) -> Result<()> {
    ensure!(
        (1..=TIERS.len()).contains(&bits.len()),
        "--bits takes one to three depths"
    );
    let spec = shape.spec()?;
    let mut writer = Writer::new(Index {
        id: format!("synthetic-{seed}"),
        producer: concat!("lagar xtask ", env!("CARGO_PKG_VERSION")).into(),
        architecture: spec.architecture.clone(),
        parameters: spec.parameters(),
        settings: BTreeMap::from([("bits".into(), format!("{bits:?}"))]),
        ..Index::default()
    });
    let scratch = Scratch::new(file, seed)?;
    let mut random = Random::new(seed);
    let tensors = declare(&mut writer, &spec, shape, files, bits, scratch, &mut random)?;
    tensors
        .records
        .into_iter()
        .for_each(|record| writer.tensor(record));
    let scratch = tensors.scratch.finish()?;
    let written = writer.write(file);
    std::fs::remove_file(&scratch)
        .with_context(|| format!("cannot remove {}", scratch.display()))?;
    let bytes = written?;
    let per_parameter = 8.0 * bytes as f64 / spec.parameters() as f64;
    println!(
        "{}: {bytes} bytes, {per_parameter:.2} bits per parameter",
        file.display()
    );
    Ok(())
}

struct Declared {
    records: Vec<TensorRecord>,
    scratch: Scratch,
}

/// Declares all parts, tier by tier, their bytes going to the scratch file.
fn declare(
    writer: &mut Writer,
    spec: &ModelSpec,
    shape: &Shape,
    files: &[SmallFile],
    bits: &[u8],
    mut scratch: Scratch,
    random: &mut Random,
) -> Result<Declared> {
    let transforms = {
        writer.begin_tier(TIERS[0]);
        writer.file("config.json", &shape.config()?);
        files
            .iter()
            .for_each(|(name, content)| writer.file(*name, content));
        transforms(writer, spec, random)
    };
    let mut records = Vec::new();
    for tensor in spec.tensors() {
        let body = match transforms.get(&tensor.name) {
            Some(&transform) => Body::Linear {
                transform,
                stages: Vec::new(),
            },
            None => {
                let ones: Vec<u8> = tensor
                    .shape
                    .iter()
                    .flat_map(|&width| [0x80, 0x3f].repeat(width))
                    .collect();
                Body::Raw {
                    dtype: Dtype::BF16,
                    parts: vec![writer.part(ones)],
                }
            }
        };
        records.push(TensorRecord {
            name: tensor.name,
            shape: tensor.shape.iter().map(|&d| d as u64).collect(),
            dtype: Dtype::BF16,
            body,
            exact: None,
        });
    }
    for (tier, &depth) in bits.iter().enumerate() {
        if tier > 0 {
            writer.begin_tier(TIERS[tier]);
        }
        let table = Table::trained(depth, WINDOW);
        let number = writer.table(table_record(table));
        for record in &mut records {
            let TensorRecord {
                shape,
                body: Body::Linear { stages, .. },
                ..
            } = record
            else {
                continue;
            };
            let (rows, cols) = (shape[0] as usize, shape[1] as usize);
            let depths = vec![depth; cols.div_ceil(lagar_codec::GROUP)];
            let layout = StageLayout::new(rows, cols, &depths)?;
            // Each later stage corrects what the one before it left.
            let deviation = 0.28_f32.powi(tier as i32) / (cols as f32).sqrt();
            stages.push(Stage::Window(WindowStage {
                tier,
                table: number,
                codes: writer.part(scratch.codes(&layout)?),
                scales: writer.part(scratch.scales(layout.scales_len())?),
                row_scales: vec![
                    writer.part(scratch.row_scales(&layout, deviation / table.sigma())?),
                ],
                depths,
            }));
        }
    }
    Ok(Declared { records, scratch })
}

/// A transform for each distinct linear input; returns the transform of each weight.
fn transforms(
    writer: &mut Writer,
    spec: &ModelSpec,
    random: &mut Random,
) -> BTreeMap<String, usize> {
    let mut transforms = BTreeMap::new();
    for site in spec.sites() {
        let mut columns: Vec<u32> = (0..site.width as u32).collect();
        for last in (1..columns.len()).rev() {
            let other = (u128::from(random.next_u64()) * (last as u128 + 1)) >> 64;
            columns.swap(last, other as usize);
        }
        let permutation: Vec<u8> = if site.width <= 1 << 16 {
            columns
                .iter()
                .flat_map(|&column| (column as u16).to_le_bytes())
                .collect()
        } else {
            columns
                .iter()
                .flat_map(|column| column.to_le_bytes())
                .collect()
        };
        let mut signs: Vec<u8> = (0..site.width.div_ceil(8))
            .map(|_| random.next_u64() as u8)
            .collect();
        if let Some(last) = signs.last_mut().filter(|_| site.width % 8 > 0) {
            *last &= (1 << (site.width % 8)) - 1;
        }
        let transform = writer.index().transforms.len();
        let record = TransformRecord {
            width: site.width as u64,
            permutation: writer.part(permutation),
            signs: writer.part(signs),
        };
        writer.transform(record);
        for linear in site.linears {
            transforms.insert(linear, transform);
        }
    }
    if let Some(&head) = transforms.get(&spec.head.weight) {
        // The embedding is looked up, not multiplied; any transform of its width will do.
        transforms
            .entry(spec.embedding().to_string())
            .or_insert(head);
    }
    transforms
}

fn table_record(table: &Table) -> TableRecord {
    let levels = match table.split() {
        None => Levels::Free(table.levels().to_vec()),
        Some(split) => Levels::Split {
            a: split.a,
            b: split.b,
            a_sign_bit: split.a_sign_bit,
            b_sign_bit: split.b_sign_bit,
        },
    };
    TableRecord {
        depth: table.depth(),
        window: table.window(),
        levels,
    }
}

/// Random parts on disk until the writer copies them.
struct Scratch {
    path: PathBuf,
    out: BufWriter<File>,
    end: u64,
    random: Random,
}

impl Scratch {
    fn new(file: &Path, seed: u64) -> Result<Self> {
        let mut path = file.as_os_str().to_owned();
        path.push(".scratch");
        let path = PathBuf::from(path);
        let out = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self {
            path,
            out: BufWriter::with_capacity(1 << 20, out),
            end: 0,
            random: Random::new(seed ^ 0x5eed),
        })
    }

    /// Random tile streams: in each a zero byte first; 64 zero bytes after the last.
    fn codes(&mut self, layout: &StageLayout) -> Result<PartSource> {
        let mut end = 0;
        let start = self.end;
        for tile_row in 0..layout.tile_rows() {
            for group in 0..layout.groups() {
                let tile = layout.tile_range(tile_row, group);
                self.put(&[0])?;
                self.random_bytes(tile.len() - 1, 0xff)?;
                end = tile.end;
            }
        }
        self.put(&vec![0; layout.codes_len() - end])?;
        Ok(self.part_from(start))
    }

    /// Scale codes from 1 down to about one half.
    fn scales(&mut self, len: usize) -> Result<PartSource> {
        let start = self.end;
        self.random_bytes(len, 0x0f)?;
        Ok(self.part_from(start))
    }

    fn row_scales(&mut self, layout: &StageLayout, scale: f32) -> Result<PartSource> {
        let start = self.end;
        let scale = half::bf16::from_f32(scale).to_le_bytes();
        self.put(&scale.repeat(layout.padded_rows()))?;
        Ok(self.part_from(start))
    }

    fn random_bytes(&mut self, len: usize, mask: u8) -> Result<()> {
        let mut buffer = [0; 4096];
        let mut left = len;
        while left > 0 {
            let chunk = &mut buffer[..left.min(4096)];
            for word in chunk.chunks_mut(8) {
                word.copy_from_slice(&self.random.next_u64().to_le_bytes()[..word.len()]);
                word.iter_mut().for_each(|byte| *byte &= mask);
            }
            left -= chunk.len();
            self.out.write_all(chunk)?;
        }
        self.end += len as u64;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn part_from(&self, offset: u64) -> PartSource {
        PartSource::File {
            path: self.path.clone(),
            offset,
            bytes: self.end - offset,
        }
    }

    /// Makes all parts readable; returns the file to remove in the end.
    fn finish(self) -> Result<PathBuf> {
        let write_error = || format!("cannot write {}", self.path.display());
        self.out.into_inner().with_context(write_error)?;
        Ok(self.path)
    }
}
