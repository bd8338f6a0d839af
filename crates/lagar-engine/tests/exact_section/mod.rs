//! Files with an exact section.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lagar_codec::exact::{ExactShape, ExactType};
use lagar_engine::exact::{Prediction, Tensors};
use lagar_engine::{Checkpoint, Role, TensorView};
use lagar_format::{
    Blob, Body, Coding, Container, Dtype, Exact, ExactBody, Index, Limits, TensorRecord, Writer,
    compress,
};
use lagar_kernels::{Cpu, ExactSource, Isa, PredictScratch};

use crate::pressed::{self, Recipe};

/// Writes the file of a recipe and puts the checkpoint's own weights behind it, as tier `full`. A
/// recipe without tiers makes a file of that tier alone.
pub(crate) fn write(folder: &Path, recipe: &Recipe, into: &Path, name: &str) -> PathBuf {
    let path = into.join(name);
    let checkpoint = Checkpoint::open(folder).unwrap();
    if recipe.depths.is_empty() {
        exact_only(&checkpoint).write(&path).unwrap();
        return path;
    }
    let base = pressed::write(folder, recipe, into, &format!("{name} base"));
    let container = Arc::new(Container::open(&base, &Limits::default()).unwrap());
    let tensors = Tensors::new(Arc::clone(&container));
    let below = container.index().tiers.len() - 1;
    let mut writer = Writer::extending(&container).unwrap();
    writer.begin_tier("full");
    for number in 0..container.index().tensors.len() {
        let original = checkpoint
            .tensor(&container.index().tensors[number].name)
            .unwrap();
        let prediction = tensors.prediction(number, below).unwrap();
        let exact = exact(&mut writer, number, &original, prediction);
        writer.index_mut().tensors[number].exact = Some(exact);
    }
    writer.write(&path).unwrap();
    path
}

fn exact_only(checkpoint: &Checkpoint) -> Writer {
    let spec = checkpoint.spec();
    let mut writer = Writer::new(Index {
        id: "test".into(),
        producer: "test".into(),
        architecture: spec.architecture.clone(),
        parameters: spec.parameters(),
        ..Index::default()
    });
    writer.begin_tier("full");
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        writer.file(name, checkpoint.file(name).unwrap());
    }
    for (number, tensor) in spec.tensors().into_iter().enumerate() {
        let original = checkpoint.tensor(&tensor.name).unwrap();
        // Vectors as they are serve both purposes.
        let (body, exact) = if tensor.role == Role::Vector {
            let body = Body::Raw {
                dtype: original.dtype(),
                parts: vec![writer.part(original.region().to_vec())],
            };
            let exact = Exact {
                blake3: "0".repeat(64),
                body: ExactBody::Raw,
            };
            (body, exact)
        } else {
            (Body::Exact, exact(&mut writer, number, &original, None))
        };
        writer.tensor(TensorRecord {
            name: tensor.name,
            shape: tensor.shape.iter().map(|&d| d as u64).collect(),
            dtype: original.dtype(),
            body,
            exact: Some(exact),
        });
    }
    writer
}

/// Matrices coded, vectors compressed or not, in turn.
fn exact(
    writer: &mut Writer,
    number: usize,
    original: &TensorView,
    prediction: Option<Prediction>,
) -> Exact {
    let bytes = original.region();
    let body = match original.shape() {
        &[rows, cols] => {
            let ty = match original.dtype() {
                Dtype::BF16 => ExactType::Bf16,
                Dtype::F16 => ExactType::F16,
                Dtype::F32 => ExactType::F32,
                other => panic!("{other}"),
            };
            let cpu = Cpu::new(Isa::best(), 2);
            let source = Source {
                cpu: &cpu,
                shape: ExactShape::new(rows, cols, ty).unwrap(),
                original: bytes,
                prediction,
            };
            let (model, codes) = cpu.exact_encode(&source.shape, &source);
            let lengths = codes.iter().flat_map(|c| (c.len() as u32).to_le_bytes());
            ExactBody::Coded {
                model: writer.part(model.to_bytes()),
                lengths: writer.part(lengths.collect::<Vec<u8>>()),
                codes: writer.part(codes.concat()),
            }
        }
        _ if number.is_multiple_of(2) => {
            let stored = compress(bytes);
            ExactBody::Stored(Blob {
                bytes: bytes.len() as u64,
                coding: Coding::Zlib,
                lengths: vec![stored.len() as u64],
                part: writer.part(stored),
            })
        }
        _ => ExactBody::Stored(Blob {
            bytes: bytes.len() as u64,
            coding: Coding::Raw,
            lengths: Vec::new(),
            part: writer.part(bytes.to_vec()),
        }),
    };
    Exact {
        blake3: "0".repeat(64),
        body,
    }
}

struct Source<'a> {
    cpu: &'a Cpu,
    shape: ExactShape,
    original: &'a [u8],
    prediction: Option<Prediction>,
}

impl ExactSource for Source<'_> {
    fn predicted(&self) -> bool {
        self.prediction.is_some()
    }

    fn chunk(&self, chunk: usize, original: &mut Vec<u8>, predicted: &mut Vec<f32>) {
        let rows = self.shape.chunk_rows(chunk);
        let width = self.shape.cols() * self.shape.element_bytes();
        original.clear();
        original.extend_from_slice(&self.original[rows.start * width..rows.end * width]);
        predicted.clear();
        if let Some(prediction) = &self.prediction {
            predicted.resize(self.shape.chunk_weights(chunk), 0.0);
            let mut scratch = PredictScratch::default();
            prediction.predict(self.cpu, rows, &mut scratch, predicted);
        }
    }
}
