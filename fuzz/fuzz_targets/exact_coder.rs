//! Reads models of the exact coder and decodes chunks from any bytes: every instruction set of the machine
//! gives what the reference gives; and encodes any bytes, which must come back.
//!
//! Input: type, rows, columns, prediction (u8 each), length of the model (u16), the model, the code of a
//! chunk. The same bytes serve as elements and predictions.
#![no_main]

use std::sync::LazyLock;

use lagar_codec::exact::{ExactModel, ExactShape, ExactType, reference};
use lagar_kernels::{Cpu, ExactSource, Isa};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((head, rest)) = input.split_first_chunk::<6>() else {
        return;
    };
    let [ty, rows, cols, predicted, l0, l1] = *head;
    if rest.is_empty() {
        return;
    }
    let ty = ExactType::ALL[usize::from(ty) % 5];
    // Two chunks at most, so that an iteration stays short.
    let (rows, cols) = (usize::from(rows) % 40 + 1, usize::from(cols) * 5 + 1);
    let shape = ExactShape::new(rows, cols, ty).unwrap();
    let length = usize::from(u16::from_le_bytes([l0, l1])).min(rest.len());
    let (model, code) = rest.split_at(length);
    let cycle = |len: usize| rest.iter().copied().cycle().take(len).collect::<Vec<u8>>();
    let predictions = cycle(if predicted % 2 == 1 {
        4 * rows * cols
    } else {
        0
    });
    let tensor = Tensor {
        shape,
        original: cycle(ty.bytes() * rows * cols),
        predicted: predictions
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect(),
    };

    if let Ok(model) = ExactModel::from_bytes(shape, tensor.predicted(), model) {
        compare(&tensor, &model, 0, code);
    }
    let (model, codes) = CPUS[0].exact_encode(&shape, &tensor);
    let model = ExactModel::from_bytes(shape, tensor.predicted(), &model.to_bytes()).unwrap();
    for (chunk, code) in codes.iter().enumerate() {
        let out = compare(&tensor, &model, chunk, code);
        assert!(
            out.as_deref() == Some(tensor.part(chunk).0),
            "not what was encoded"
        );
    }
});

/// One single-threaded executor for each instruction set of this machine.
static CPUS: LazyLock<Vec<Cpu>> = LazyLock::new(|| {
    Isa::available()
        .into_iter()
        .map(|isa| Cpu::new(isa, 1))
        .collect()
});

/// Decodes a chunk in every way; returns what they agree on.
fn compare(tensor: &Tensor, model: &ExactModel, chunk: usize, code: &[u8]) -> Option<Vec<u8>> {
    let (original, predicted) = tensor.part(chunk);
    let mut expected = vec![0; original.len()];
    let result = reference::decode_chunk(model, chunk, code, predicted, &mut expected);
    for cpu in CPUS.iter() {
        let mut out = vec![0; expected.len()];
        let found = cpu.exact_decode(model, chunk, code, predicted, &mut out);
        assert_eq!(found.is_ok(), result.is_ok(), "{:?}", cpu.isa());
        assert!(result.is_err() || out == expected, "{:?}", cpu.isa());
    }
    result.is_ok().then_some(expected)
}

struct Tensor {
    shape: ExactShape,
    original: Vec<u8>,
    predicted: Vec<f32>,
}

impl Tensor {
    fn part(&self, chunk: usize) -> (&[u8], &[f32]) {
        let (rows, cols) = (self.shape.chunk_rows(chunk), self.shape.cols());
        let size = self.shape.element_bytes() * cols;
        let predicted = self.predicted.get(rows.start * cols..rows.end * cols);
        (
            &self.original[rows.start * size..rows.end * size],
            predicted.unwrap_or(&[]),
        )
    }
}

impl ExactSource for Tensor {
    fn predicted(&self) -> bool {
        !self.predicted.is_empty()
    }

    fn chunk(&self, chunk: usize, original: &mut Vec<u8>, predicted: &mut Vec<f32>) {
        let (bytes, values) = self.part(chunk);
        original.clear();
        original.extend_from_slice(bytes);
        predicted.clear();
        predicted.extend_from_slice(values);
    }
}
