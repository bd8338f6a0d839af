//! Measures the exact coder: `cargo run --release -p lagar-kernels --example exact_speed`.
//!
//! Arguments are names of instruction sets; without any, all that the processor has are measured, with
//! 256 × 4096 normally distributed weights, with and without a prediction as good as a 4-bit base's. One
//! thread; bytes are those of the original tensor; each time is the least of 40, that of decoding chunk by
//! chunk, so that other work on the machine counts little.
//!
//! `exact_speed --tensor TYPE ROWS COLS ORIGINAL [PREDICTED]` prints the size of one tensor's code, from files
//! of little-endian elements and f32.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use lagar_codec::exact::{ExactModel, ExactShape, ExactType, Method};
use lagar_kernels::{Cpu, ExactSource, Isa};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, ty, rows, cols, original, predicted @ ..] = &arguments[..]
        && flag == "--tensor"
    {
        let shape = ExactShape::new(rows.parse()?, cols.parse()?, type_of(ty)?)?;
        let predicted = match predicted {
            [file] => std::fs::read(file)?
                .as_chunks()
                .0
                .iter()
                .map(|&bytes| f32::from_le_bytes(bytes))
                .collect(),
            _ => Vec::new(),
        };
        let tensor = Tensor {
            shape,
            original: std::fs::read(original)?,
            predicted,
        };
        return tensor.size();
    }
    let isas = if arguments.is_empty() {
        Isa::available()
    } else {
        let parse = |name: &String| Isa::parse(name);
        arguments
            .iter()
            .map(parse)
            .collect::<std::result::Result<_, _>>()?
    };
    println!("isa        type    predicted | bits/weight | encode GB/s | decode GB/s");
    for isa in isas {
        for ty in ExactType::ALL {
            for predicted in [false, true] {
                Tensor::normal(ty, 256, 4096, predicted)?.speed(isa)?;
            }
        }
    }
    Ok(())
}

fn type_of(name: &str) -> Result<ExactType> {
    let found = ExactType::ALL
        .into_iter()
        .find(|ty| format!("{ty:?}") == name);
    found.ok_or_else(|| format!("no type {name}; there are {:?}", ExactType::ALL).into())
}

struct Tensor {
    shape: ExactShape,
    original: Vec<u8>,
    predicted: Vec<f32>,
}

impl ExactSource for Tensor {
    fn predicted(&self) -> bool {
        !self.predicted.is_empty()
    }

    fn chunk(&self, chunk: usize, original: &mut Vec<u8>, predicted: &mut Vec<f32>) {
        let rows = self.shape.chunk_rows(chunk);
        let range = rows.start * self.shape.cols()..rows.end * self.shape.cols();
        let size = self.shape.element_bytes();
        original.clear();
        original.extend_from_slice(&self.original[size * range.start..size * range.end]);
        predicted.clear();
        if self.predicted() {
            predicted.extend_from_slice(&self.predicted[range]);
        }
    }
}

impl Tensor {
    /// Weights with a standard deviation of .02, those of 8-bit types of 60; predictions are off by a twelfth
    /// of that.
    fn normal(ty: ExactType, rows: usize, cols: usize, predicted: bool) -> Result<Self> {
        let shape = ExactShape::new(rows, cols, ty)?;
        let mut state = 1u64;
        let mut normal = move || {
            let mut sum = 0.0;
            for _ in 0..3 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                for shift in [16, 28, 40, 52] {
                    sum += ((state >> shift & 4095) as f32 + 0.5) / 4096.0;
                }
            }
            sum - 6.0
        };
        let sigma = if ty.bytes() == 1 { 60.0 } else { 0.02 };
        let mut tensor = Self {
            shape,
            original: Vec::new(),
            predicted: Vec::new(),
        };
        for _ in 0..rows * cols {
            let value = sigma * normal();
            let bits = value.to_bits();
            match ty {
                ExactType::F32 => tensor.original.extend(bits.to_le_bytes()),
                ExactType::Bf16 => tensor.original.extend(&bits.to_le_bytes()[2..]),
                // Cut off, not rounded: it makes no difference here.
                _ => {
                    let (keep, low) = (24 - ty.significand_bits(), ty.low_bits());
                    let high = ty.high_of_pattern(bits >> keep << keep);
                    let low = bits >> (keep - low) & ((1 << low) - 1);
                    let bytes = (high | low).to_le_bytes();
                    tensor.original.extend(&bytes[..ty.bytes()]);
                }
            }
            if predicted {
                tensor.predicted.push(value + sigma / 12.0 * normal());
            }
        }
        Ok(tensor)
    }

    fn size(&self) -> Result<()> {
        let (model, codes) = Cpu::new(Isa::best(), 1).exact_encode(&self.shape, self);
        let weights = (self.shape.rows() * self.shape.cols()) as f64;
        let (head, method) = (model.to_bytes().len(), model.method());
        let codes: usize = codes.iter().map(|code| code.len() + 4).sum();
        println!(
            "{:.4} bits/weight, {:.4} of them for the model, {}",
            8.0 * (head + codes) as f64 / weights,
            8.0 * head as f64 / weights,
            describe(method),
        );
        Ok(())
    }

    fn speed(&self, isa: Isa) -> Result<()> {
        let cpu = Cpu::new(isa, 1);
        let mut encode = f64::INFINITY;
        let (model, codes) = least_of_40(&mut encode, || cpu.exact_encode(&self.shape, self));
        let model = ExactModel::from_bytes(self.shape, self.predicted(), &model.to_bytes())?;
        let mut out = vec![0; self.original.len()];
        let mut rest = &mut out[..];
        let mut decode = 0.0;
        for (chunk, code) in codes.iter().enumerate() {
            let rows = self.shape.chunk_rows(chunk);
            // In the cache, where a decoder of the tiers below has just written it.
            let predicted: Vec<f32> = match self.predicted() {
                true => self.predicted[rows.start * 4096..rows.end * 4096].to_vec(),
                false => Vec::new(),
            };
            let (this, others) = rest.split_at_mut(self.shape.chunk_bytes(chunk));
            let mut least = f64::INFINITY;
            least_of_40(&mut least, || {
                cpu.exact_decode(&model, chunk, code, &predicted, this)
            })?;
            decode += least;
            rest = others;
        }
        assert!(
            out == self.original,
            "{isa} does not decode what was encoded"
        );
        let bytes: usize = codes.iter().map(Vec::len).sum();
        println!(
            "{:9}  {:7} {:9} | {:11.3} | {:11.3} | {:.3}",
            isa.name(),
            format!("{:?}", self.shape.ty()),
            self.predicted(),
            8.0 * bytes as f64 / (self.shape.rows() * self.shape.cols()) as f64,
            out.len() as f64 / encode / 1e9,
            out.len() as f64 / decode / 1e9,
        );
        Ok(())
    }
}

/// Does something 40 times; keeps the least of the times and the last result.
fn least_of_40<T>(seconds: &mut f64, mut work: impl FnMut() -> T) -> T {
    let mut run = || {
        let start = Instant::now();
        let result = work();
        *seconds = seconds.min(start.elapsed().as_secs_f64());
        result
    };
    for _ in 1..40 {
        run();
    }
    run()
}

fn describe(method: &Method) -> String {
    match method {
        Method::Raw => "raw".into(),
        Method::Palette(palette) => format!("palette of {}", palette.values.len()),
        Method::Scaled(scaled) => format!(
            "depth {}, slots of zero {} and escape {}, {} profile",
            scaled.depth,
            scaled.zero,
            scaled.escape,
            if scaled.profile == lagar_codec::exact::Profile::normal() {
                "normal"
            } else {
                "own"
            }
        ),
    }
}
