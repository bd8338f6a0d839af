//! Files of random codes in the shape of a checkpoint. They compute nonsense, but the same nonsense
//! everywhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lagar_codec::{GROUP, StageLayout, Table, Transform, pack_sparse};
use lagar_engine::{Checkpoint, Role};
use lagar_format::{
    Body, Dtype, Index, Levels, LowRankStage, SparseStage, Stage, TableRecord, TensorRecord,
    TransformRecord, WindowStage, Writer,
};

/// What to write; the default is one tier of 2 bits.
pub(crate) struct Recipe {
    /// For each tier, the depth of its stage.
    pub(crate) depths: Vec<u8>,
    /// Group 0 of every stage has depth 0.
    pub(crate) with_empty_groups: bool,
    /// The last tier of every linear has a sparse stage and a low-rank one too.
    pub(crate) with_all_kinds: bool,
    /// A `config.json` to store instead of the checkpoint's.
    pub(crate) config: Option<String>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            depths: vec![2],
            with_empty_groups: false,
            with_all_kinds: false,
            config: None,
        }
    }
}

/// A small multiplicative generator: Lehmer's, modulus 2^64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(0xda94_2042_e4dd_58b5).wrapping_add(1);
        (self.0 >> 56) as u8
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next()).collect()
    }

    fn transform(&mut self, width: usize) -> Transform {
        let mut perm: Vec<u32> = (0..width as u32).collect();
        for i in (1..width).rev() {
            perm.swap(i, usize::from(self.next()) % (i + 1));
        }
        let signs = (0..width).map(|_| self.next() & 1 == 1).collect();
        Transform::new(width, perm, signs).unwrap()
    }
}

/// Writes a pressed file in the shape of the checkpoint in `folder`, as `name` beside nothing else
/// in `into`.
pub(crate) fn write(folder: &Path, recipe: &Recipe, into: &Path, name: &str) -> PathBuf {
    let path = into.join(name);
    writer(folder, recipe, |_| true).write(&path).unwrap();
    path
}

/// The same, leaving out tensors.
pub(crate) fn writer(folder: &Path, recipe: &Recipe, keep: impl Fn(&str) -> bool) -> Writer {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let spec = checkpoint.spec();
    let mut random = Random(1);
    let mut writer = Writer::new(Index {
        id: "test".into(),
        producer: "test".into(),
        architecture: spec.architecture.clone(),
        parameters: spec.parameters(),
        ..Index::default()
    });
    // Sites of the inputs, and one more for an embedding that is not the head.
    let mut groups: Vec<Vec<String>> = spec.sites().into_iter().map(|site| site.linears).collect();
    if !spec.is_tied() {
        groups.push(vec![spec.embedding().to_owned()]);
    }
    let tensors = spec.tensors();
    let mut bodies = BTreeMap::new();
    let mut vectors = BTreeMap::new();
    let mut transforms = Vec::new();
    for (tier, &depth) in recipe.depths.iter().enumerate() {
        writer.begin_tier(["R", "RG", "RGB"][tier]);
        if tier == 0 {
            let config = recipe.config.as_ref().map(String::as_bytes);
            let config = config.unwrap_or(checkpoint.file("config.json").unwrap());
            writer.file("config.json", config);
            for name in ["tokenizer.json", "tokenizer_config.json"] {
                writer.file(name, checkpoint.file(name).unwrap());
            }
        }
        for tensor in tensors
            .iter()
            .filter(|t| tier == 0 && t.role == Role::Vector)
        {
            let values = checkpoint.tensor(&tensor.name).unwrap().to_f32();
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            vectors.insert(tensor.name.clone(), writer.part(bytes));
        }
        let table = writer.table(record(Table::trained(depth, 8)));
        for (site, names) in groups.iter().enumerate() {
            for name in names {
                let shape = &tensors.iter().find(|t| t.name == *name).unwrap().shape;
                let (rows, cols) = (shape[0], shape[1]);
                if tier == 0 && transforms.len() == site {
                    transforms.push(add_transform(&mut writer, &random.transform(cols)));
                }
                let mut depths = vec![depth; cols.next_multiple_of(4).div_ceil(GROUP)];
                if recipe.with_empty_groups && depths.len() > 1 {
                    depths[0] = 0;
                }
                let layout = StageLayout::new(rows, cols, &depths).unwrap();
                let stage = Stage::Window(add_stage(
                    &mut writer,
                    &mut random,
                    &layout,
                    tier,
                    table,
                    Table::trained(depth, 8).sigma(),
                ));
                let body = bodies
                    .entry(name.clone())
                    .or_insert((transforms[site], Vec::new()));
                body.1.push(stage);
                if recipe.with_all_kinds && tier + 1 == recipe.depths.len() {
                    body.1
                        .push(add_low_rank(&mut writer, &mut random, rows, cols, tier));
                    body.1
                        .push(add_sparse(&mut writer, &mut random, rows, cols, tier));
                }
            }
        }
    }
    for tensor in tensors.iter().filter(|tensor| keep(&tensor.name)) {
        let original = checkpoint.tensor(&tensor.name).unwrap();
        let body = if tensor.role == Role::Vector {
            Body::Raw {
                dtype: Dtype::F32,
                parts: vec![vectors[&tensor.name]],
            }
        } else {
            let (transform, stages) = bodies.remove(&tensor.name).unwrap();
            Body::Linear { transform, stages }
        };
        writer.tensor(TensorRecord {
            name: tensor.name.clone(),
            shape: tensor.shape.iter().map(|&d| d as u64).collect(),
            dtype: original.dtype(),
            body,
            exact: None,
        });
    }
    writer
}

fn record(table: &Table) -> TableRecord {
    TableRecord {
        depth: table.depth(),
        window: table.window(),
        levels: match table.split() {
            Some(split) => Levels::Split {
                a: split.a,
                b: split.b,
                a_sign_bit: split.a_sign_bit,
                b_sign_bit: split.b_sign_bit,
            },
            None => Levels::Free(table.levels().to_vec()),
        },
    }
}

fn add_transform(writer: &mut Writer, transform: &Transform) -> usize {
    let permutation = transform
        .columns()
        .flat_map(|c| (c as u16).to_le_bytes())
        .collect::<Vec<u8>>();
    let mut signs = vec![0; transform.width().div_ceil(8)];
    for (i, negative) in transform.signs().enumerate() {
        signs[i / 8] |= u8::from(negative) << (i % 8);
    }
    let record = TransformRecord {
        width: transform.width() as u64,
        permutation: writer.part(permutation),
        signs: writer.part(signs),
    };
    writer.transform(record)
}

/// A product of rank 16 at 8 bits.
fn add_low_rank(
    writer: &mut Writer,
    random: &mut Random,
    rows: usize,
    cols: usize,
    tier: usize,
) -> Stage {
    let table = Table::trained(8, 8);
    let id = writer.table(record(table));
    let mut factor = |rows: usize, cols: usize| {
        let depths = vec![8; cols.next_multiple_of(4).div_ceil(GROUP)];
        let layout = StageLayout::new(rows, cols, &depths).unwrap();
        // Of the size that keeps a vector's length, whatever the rank.
        add_stage(writer, random, &layout, tier, id, table.sigma())
    };
    Stage::LowRank(LowRankStage {
        rank: 16,
        v: factor(16, cols),
        u: factor(rows, 16),
    })
}

/// One entry in about 40, none in some rows.
fn add_sparse(
    writer: &mut Writer,
    random: &mut Random,
    rows: usize,
    cols: usize,
    tier: usize,
) -> Stage {
    let entries: Vec<Vec<(u32, u16)>> = (0..rows)
        .map(|_| {
            let columns = (0..cols as u32).filter(|_| random.next() < 6);
            let columns: Vec<u32> = columns.collect();
            let mut value =
                || half::f16::from_f32(f32::from(random.next() as i8) / 128.0).to_bits();
            columns
                .into_iter()
                .map(|column| (column, value()))
                .collect()
        })
        .collect();
    let packed = pack_sparse(&entries).unwrap();
    Stage::Sparse(SparseStage {
        tier,
        gap_bytes: packed.gap_bytes,
        counts: writer.part(packed.counts),
        gaps: writer.part(packed.gaps),
        values: writer.part(packed.values),
    })
}

fn add_stage(
    writer: &mut Writer,
    random: &mut Random,
    layout: &StageLayout,
    tier: usize,
    table: usize,
    sigma: f32,
) -> WindowStage {
    let mut codes = vec![0; layout.codes_len()];
    for tile_row in 0..layout.tile_rows() {
        for group in 0..layout.groups() {
            let range = layout.tile_range(tile_row, group);
            // One zero byte precedes every stream.
            if let Some(stream) = codes[range].get_mut(1..) {
                stream.copy_from_slice(&random.bytes(stream.len()));
            }
        }
    }
    let scales = random.bytes(layout.scales_len());
    let scales: Vec<u8> = scales.into_iter().map(|byte| byte % 32).collect();
    // Weights of about the variance that keeps a vector's length; later tiers correct by less.
    let scale = 1.5 / sigma / (layout.cols() as f32).sqrt() * 0.3f32.powi(tier as i32);
    let row_scales = (0..layout.padded_rows())
        .flat_map(|_| half::bf16::from_f32(scale).to_le_bytes())
        .collect::<Vec<u8>>();
    WindowStage {
        tier,
        table,
        depths: layout.depths().to_vec(),
        codes: writer.part(codes),
        scales: writer.part(scales),
        row_scales: vec![writer.part(row_scales)],
    }
}
