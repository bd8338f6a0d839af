//! Gradients of all parameters by name, and checkpoints with other weights.

use std::collections::BTreeMap;
use std::path::Path;

use lagar_engine::gradient::{GradientObserver, LinearGradient};
use lagar_engine::{Checkpoint, ModelSpec};
use lagar_kernels::Cpu;

/// Sums up the gradient of every parameter.
pub(crate) struct Gradients<'a> {
    cpu: &'a Cpu,
    /// Its name and its number of elements.
    embedding: (String, usize),
    pub(crate) by_name: BTreeMap<String, Vec<f32>>,
}

impl<'a> Gradients<'a> {
    pub(crate) fn new(cpu: &'a Cpu, spec: &ModelSpec) -> Self {
        Self {
            cpu,
            embedding: (spec.embedding().into(), spec.vocabulary * spec.hidden),
            by_name: BTreeMap::new(),
        }
    }

    fn of(&mut self, name: &str, len: usize) -> &mut [f32] {
        let gradient = self.by_name.entry(name.into());
        gradient.or_insert_with(|| vec![0.0; len])
    }

    fn add(&mut self, name: &str, gradient: &[f32]) {
        let sum = self.of(name, gradient.len());
        sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
    }
}

impl GradientObserver for Gradients<'_> {
    fn linear(&mut self, linear: &LinearGradient<'_>) {
        let n = linear.n;
        let (inputs, outputs) = (linear.x.len() / n, linear.dy.len() / n);
        assert_eq!(linear.y.len(), linear.dy.len());
        let cpu = self.cpu;
        let (x, dy) = (linear.x, linear.dy);
        let sum = self.of(linear.weight, inputs * outputs);
        cpu.gemm_tn(dy, outputs, x, inputs, sum, inputs, outputs, inputs, n, 1.0);
    }

    fn norm(&mut self, name: &str, dweight: &[f32]) {
        self.add(name, dweight);
    }

    fn bias(&mut self, name: &str, dbias: &[f32]) {
        self.add(name, dbias);
    }

    fn embedding(&mut self, tokens: &[u32], rows: &[f32], drows: &[f32]) {
        assert_eq!(rows.len(), drows.len());
        let width = drows.len() / tokens.len();
        let (name, len) = self.embedding.clone();
        let sum = self.of(&name, len);
        for (token, row) in tokens.iter().zip(drows.chunks_exact(width)) {
            let sum = &mut sum[*token as usize * width..][..width];
            sum.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
        }
    }
}

/// Writes a checkpoint like the one in `from`, with the weights that `change` makes of its own, in
/// F32.
pub(crate) fn write_checkpoint(
    from: &Path,
    to: &Path,
    mut change: impl FnMut(&str, Vec<f32>) -> Vec<f32>,
) {
    std::fs::create_dir_all(to).unwrap();
    let original = Checkpoint::open(from).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::write(to.join(name), original.file(name).unwrap()).unwrap();
    }
    let mut header = serde_json::Map::new();
    let mut data: Vec<u8> = Vec::new();
    for tensor in original.spec().tensors() {
        let values = original.tensor(&tensor.name).unwrap().to_f32();
        let values = change(&tensor.name, values);
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let offsets = [start, data.len()];
        let entry = serde_json::json!({
            "dtype": "F32", "shape": tensor.shape, "data_offsets": offsets
        });
        header.insert(tensor.name, entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    std::fs::write(to.join("model.safetensors"), bytes).unwrap();
}
