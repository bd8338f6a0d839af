//! One transformer block.

use lagar_kernels::{AttentionArgs, Cpu, KvCache, KvPush};

use super::linear::{Input, Linear, Weight};
use super::options::Activations;
use super::scratch::{Scratch, room};
use super::{Model, Observer};
use crate::EngineError;
use crate::spec::{
    ATTENTION_INPUT, ATTENTION_OUTPUT, Attention, Block, MLP_INPUT, MLP_OUTPUT, Mask, Mlp,
    ModelSpec, Norm,
};

/// The weights of a block; [`Block`] says what they are.
#[derive(Debug)]
pub(super) struct BlockWeights {
    pub(super) attention_norm: Vec<f32>,
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) output: Linear,
    pub(super) query_norm: Option<Vec<f32>>,
    pub(super) key_norm: Option<Vec<f32>>,
    pub(super) mlp_norm: Vec<f32>,
    pub(super) gate: Linear,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

impl BlockWeights {
    /// In the order of [`Block::linears`].
    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        [
            &self.query,
            &self.key,
            &self.value,
            &self.output,
            &self.gate,
            &self.up,
            &self.down,
        ]
        .into_iter()
    }

    /// In the order of [`Block::linears`].
    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        [
            &mut self.query,
            &mut self.key,
            &mut self.value,
            &mut self.output,
            &mut self.gate,
            &mut self.up,
            &mut self.down,
        ]
        .into_iter()
    }

    /// All linears, for what they are made of.
    pub(super) fn into_linears(self) -> [Linear; 7] {
        [
            self.query,
            self.key,
            self.value,
            self.output,
            self.gate,
            self.up,
            self.down,
        ]
    }

    /// In the order of [`Block::norms`].
    pub(super) fn norms(&self) -> impl Iterator<Item = &[f32]> {
        [&self.attention_norm]
            .into_iter()
            .chain(&self.query_norm)
            .chain(&self.key_norm)
            .chain([&self.mlp_norm])
            .map(Vec::as_slice)
    }

    /// In the order of [`Block::norms`].
    pub(super) fn norms_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        [&mut self.attention_norm]
            .into_iter()
            .chain(&mut self.query_norm)
            .chain(&mut self.key_norm)
            .chain([&mut self.mlp_norm])
            .map(Vec::as_mut_slice)
    }

    pub(super) fn is_pressed(&self) -> bool {
        self.linears()
            .any(|linear| matches!(linear.weight, Weight::Pressed(_)))
    }
}

/// Vectors of one sequence among those that take a block together.
pub(super) struct Part<'a> {
    /// The block's keys and values of the sequence so far.
    pub(super) cache: &'a mut KvCache,
    /// How many positions follow.
    pub(super) n: usize,
}

/// What a block's pass works with.
pub(super) struct Pass<'a> {
    pub(super) cpu: &'a Cpu,
    pub(super) layer: usize,
    pub(super) n: usize,
    pub(super) activations: Activations,
    pub(super) observer: &'a mut dyn Observer,
}

impl Model {
    /// Takes `n` vectors through one block, in place: `x` is the residual stream, n × hidden.
    ///
    /// They are the positions that follow those in `cache`, which their keys and values are added
    /// to. Observers see the input of every site of the block.
    ///
    /// # Errors
    /// Weights that are read from the disk while the model runs, and cannot be read or are damaged;
    /// `x` and `cache` are then as they were.
    ///
    /// # Panics
    /// If there is no such block, `x` has another length, or `cache` belongs to a block of another
    /// shape or has no room for `n` more positions.
    pub fn layer(
        &self,
        cpu: &Cpu,
        layer: usize,
        x: &mut [f32],
        n: usize,
        cache: &mut KvCache,
        observer: &mut dyn Observer,
    ) -> Result<(), EngineError> {
        let parts = &mut [Part { cache, n }];
        self.layer_in(cpu, layer, x, parts, self.activations, observer)
    }

    /// [`Model::layer`] for vectors of several sequences, one after the other in `x`, in this arithmetic.
    pub(super) fn layer_in(
        &self,
        cpu: &Cpu,
        layer: usize,
        x: &mut [f32],
        parts: &mut [Part<'_>],
        activations: Activations,
        observer: &mut dyn Observer,
    ) -> Result<(), EngineError> {
        let spec = &self.spec.blocks[layer];
        let n = parts.iter().map(|part| part.n).sum();
        assert_eq!(x.len(), n * self.spec.hidden, "n × hidden");
        let weights = self.weights.block(cpu, layer)?;
        let mut pass = Pass {
            cpu,
            layer,
            n,
            activations,
            observer,
        };
        self.scratch.with(|scratch| {
            pass.attention(spec, &weights, x, parts, scratch);
            pass.mlp(spec, &weights, x, scratch);
        });
        Ok(())
    }
}

impl Pass<'_> {
    /// `x += output(attention(norm(x)))`, and the norm for the [`Pass::mlp`] that follows.
    ///
    /// Rotated queries and keys, and values, stay in the scratch.
    pub(super) fn attention(
        &mut self,
        spec: &Block,
        weights: &BlockWeights,
        x: &mut [f32],
        parts: &mut [Part<'_>],
        scratch: &mut Scratch,
    ) {
        let (cpu, n) = (self.cpu, self.n);
        let attention = &spec.attention;
        let Attention {
            heads,
            kv_heads,
            head_dim,
            ..
        } = *attention;
        let normed = room(&mut scratch.normed, x.len());
        let query = room(&mut scratch.query, n * heads * head_dim);
        let key = room(&mut scratch.key, n * kv_heads * head_dim);
        let value = room(&mut scratch.value, n * kv_heads * head_dim);
        let attended = room(&mut scratch.attended, n * heads * head_dim);

        norm(
            cpu,
            &spec.attention_norm,
            &weights.attention_norm,
            x,
            normed,
        );
        let mut input = self.input(ATTENTION_INPUT, normed, &mut scratch.prepared);
        let linears = [
            (&weights.query, &mut *query),
            (&weights.key, &mut *key),
            (&weights.value, &mut *value),
        ];
        self.multiply(ATTENTION_INPUT, linears, &mut input);

        for (x, spec, weight) in [
            (&mut *query, &attention.query_norm, &weights.query_norm),
            (&mut *key, &attention.key_norm, &weights.key_norm),
        ] {
            if let (Some(spec), Some(weight)) = (spec, weight) {
                // `attended` is free until the heads are; it is at least as long as either.
                let before = &mut attended[..x.len()];
                before.copy_from_slice(x);
                norm(cpu, spec, weight, before, x);
            }
        }
        if let Some(rope) = &attention.rope {
            let runs = parts.iter().map(|part| {
                let first = part.cache.len();
                first..first + part.n
            });
            scratch.angles.update(rope, runs);
            let (cos, sin) = (&scratch.angles.cos, &scratch.angles.sin);
            let of = &mut [(&mut *query, heads), (&mut *key, kv_heads)];
            cpu.rope(of, n, head_dim, cos, sin);
        }
        let (mut queries, mut keys, mut values) = (&*query, &*key, &*value);
        let mut pushes: Vec<_> = (parts.iter_mut())
            .map(|Part { cache, n }| {
                let own = ..*n * kv_heads * head_dim;
                KvPush {
                    cache,
                    keys: keys.split_off(own).expect("all keys"),
                    values: values.split_off(own).expect("all values"),
                    n: *n,
                }
            })
            .collect();
        cpu.push_kv(&mut pushes);
        let sequences: Vec<_> = (parts.iter())
            .map(|Part { cache, n }| AttentionArgs {
                query: (queries.split_off(..*n * heads * head_dim)).expect("all queries"),
                n: *n,
                heads,
                cache,
                scale: attention.scale,
                causal: true,
                window: match attention.mask {
                    Mask::Causal => None,
                    Mask::SlidingWindow(window) => Some(window),
                },
            })
            .collect();
        cpu.attention(&sequences, attended);
        let mut input = self.input(ATTENTION_OUTPUT, attended, &mut scratch.prepared);
        let linears = [(&weights.output, &mut *normed)];
        self.multiply(ATTENTION_OUTPUT, linears, &mut input);
        let (norm, weight) = (&spec.mlp_norm, &weights.mlp_norm);
        cpu.add_rms_norm(x, normed, weight, norm.epsilon, n);
    }

    /// `x += down(silu(gate(normed)) * up(normed))`, where `normed` is what [`Pass::attention`] has left in the scratch.
    ///
    /// Both products stay in the scratch.
    pub(super) fn mlp(
        &mut self,
        spec: &Block,
        weights: &BlockWeights,
        x: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (cpu, n) = (self.cpu, self.n);
        let Mlp::SwiGlu { gate: inner, .. } = &spec.mlp;
        let normed = room(&mut scratch.normed, x.len());
        let gate = room(&mut scratch.gate, n * inner.outputs);
        let up = room(&mut scratch.up, n * inner.outputs);
        let activated = room(&mut scratch.activated, n * inner.outputs);

        let mut input = self.input(MLP_INPUT, normed, &mut scratch.prepared);
        let linears = [(&weights.gate, &mut *gate), (&weights.up, &mut *up)];
        self.multiply(MLP_INPUT, linears, &mut input);
        cpu.swiglu(gate, up, activated);
        let mut input = self.input(MLP_OUTPUT, activated, &mut scratch.prepared);
        let linears = [(&weights.down, &mut *normed)];
        self.multiply(MLP_OUTPUT, linears, &mut input);
        cpu.add(x, normed);
    }

    /// Multiplies by the linears of a site, which is named by its place in the block, and shows the products to the observer.
    fn multiply<const N: usize>(
        &mut self,
        place: usize,
        mut linears: [(&Linear, &mut [f32]); N],
        input: &mut Input<'_>,
    ) {
        Linear::products(self.cpu, input, &mut linears);
        let site = ModelSpec::block_site(self.layer, place);
        for (at, (linear, y)) in linears.into_iter().enumerate() {
            self.observer.output(site, at, y, self.n);
            linear.add_bias(self.cpu, y, self.n);
        }
    }

    /// Shows vectors to the observer and makes them the input of the site's linears.
    fn input<'x>(
        &mut self,
        place: usize,
        x: &'x [f32],
        prepared: &'x mut super::linear::Prepared,
    ) -> Input<'x> {
        let site = ModelSpec::block_site(self.layer, place);
        self.observer.input(site, x, self.n);
        Input::new(x, self.n, self.activations, prepared)
    }
}

/// Normalises as many vectors as there are.
pub(super) fn norm(cpu: &Cpu, spec: &Norm, weight: &[f32], x: &[f32], out: &mut [f32]) {
    cpu.rms_norm(x, weight, spec.epsilon, out, x.len() / spec.width);
}
