//! The way back through one block.

use lagar_kernels::{AttentionBackward, Cpu, KvCache, KvFormat};

use super::linear::{Outputs, Strips};
use super::observer::{GradientObserver, LinearGradient};
use super::recorded::Recorded;
use crate::EngineError;
use crate::model::block::{BlockWeights, Part, Pass};
use crate::model::linear::Linear;
use crate::model::scratch::{Scratch, room};
use crate::model::{Activations, Model};
use crate::spec::{
    ATTENTION_INPUT, ATTENTION_OUTPUT, Attention, Block, LinearSpec, MLP_INPUT, MLP_OUTPUT, Mask,
    Mlp, ModelSpec, Norm,
};

/// The way back of one window.
pub(super) struct Backward<'a> {
    pub(super) cpu: &'a Cpu,
    pub(super) n: usize,
    pub(super) observer: &'a mut dyn GradientObserver,
    pub(super) strips: Strips,
    pub(super) recorded: Recorded,
}

impl Model {
    /// From the gradient of a block's result to that of its input `x`, in place; both are n × hidden.
    pub(super) fn layer_backward(
        &self,
        way: &mut Backward<'_>,
        layer: usize,
        mut x: Vec<f32>,
        dx: &mut [f32],
    ) -> Result<(), EngineError> {
        let spec = &self.spec.blocks[layer];
        let weights = self.weights.block(way.cpu, layer)?;
        let Attention {
            kv_heads, head_dim, ..
        } = spec.attention;
        let mut cache = KvCache::new(KvFormat::F32, kv_heads, head_dim);
        self.scratch.with(|scratch| {
            way.recorded.begin(ModelSpec::block_site(layer, 0));
            let mut forward = Pass {
                cpu: way.cpu,
                layer,
                n: way.n,
                activations: Activations::F32,
                observer: &mut way.recorded,
            };
            let before = x.clone();
            let mut parts = [Part {
                cache: &mut cache,
                n: way.n,
            }];
            forward.attention(spec, &weights, &mut x, &mut parts, scratch);
            let between = x.clone();
            forward.mlp(spec, &weights, &mut x, scratch);
            drop(cache);
            let mut block = BlockBackward {
                way,
                layer,
                spec,
                weights: &weights,
                scratch,
            };
            block.mlp(&between, dx);
            block.attention(&before, dx);
        });
        Ok(())
    }
}

impl Backward<'_> {
    /// Adds the gradient of a norm's input `x` to `dx`; all are n × hidden, or more vectors of heads.
    pub(super) fn norm(
        &mut self,
        spec: &Norm,
        weight: &[f32],
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
    ) {
        let n = x.len() / spec.width;
        let mut normed = vec![0.0; x.len()];
        let cpu = self.cpu;
        cpu.rms_norm_backward(x, weight, spec.epsilon, dy, n, &mut normed, dx);
        let mut dweight = vec![0.0; weight.len()];
        cpu.add_column_dots(dy, &normed, n, &mut dweight);
        self.observer.norm(&spec.weight, &dweight);
    }

    /// Shows a linear's gradient, and that of its bias.
    pub(super) fn show(&mut self, bias: Option<&str>, linear: &LinearGradient<'_>) {
        self.observer.linear(linear);
        if let Some(name) = bias {
            let mut dbias = vec![0.0; linear.dy.len() / linear.n];
            self.cpu.add_column_sums(linear.dy, linear.n, &mut dbias);
            self.observer.bias(name, &dbias);
        }
    }
}

/// A block that was computed once more, and what that left behind.
struct BlockBackward<'a, 'w> {
    way: &'a mut Backward<'w>,
    layer: usize,
    spec: &'a Block,
    weights: &'a BlockWeights,
    scratch: &'a mut Scratch,
}

impl BlockBackward<'_, '_> {
    /// The way back through `x + down(silu(gate(norm(x))) * up(norm(x)))`: `dx` becomes the
    /// gradient of `x`.
    fn mlp(&mut self, x: &[f32], dx: &mut [f32]) {
        let (spec, weights, n) = (self.spec, self.weights, self.way.n);
        let Mlp::SwiGlu { gate, up, down } = &spec.mlp;
        let len = n * gate.outputs;
        let mut dactivated = vec![0.0; len];
        self.linear((MLP_OUTPUT, 0), down, &weights.down, dx, &mut dactivated);
        let (mut dgate, mut dup) = (vec![0.0; len], vec![0.0; len]);
        let gates = room(&mut self.scratch.gate, len);
        let ups = room(&mut self.scratch.up, len);
        let cpu = self.way.cpu;
        cpu.swiglu_backward(gates, ups, &dactivated, &mut dgate, &mut dup);
        let mut dnormed = vec![0.0; x.len()];
        self.linear((MLP_INPUT, 0), gate, &weights.gate, &dgate, &mut dnormed);
        self.linear((MLP_INPUT, 1), up, &weights.up, &dup, &mut dnormed);
        self.way
            .norm(&spec.mlp_norm, &weights.mlp_norm, x, &dnormed, dx);
    }

    /// The way back through `x + output(attention(norm(x)))`: `dx` becomes the gradient of `x`.
    fn attention(&mut self, x: &[f32], dx: &mut [f32]) {
        let (spec, weights, n) = (self.spec, self.weights, self.way.n);
        let attention = &spec.attention;
        let &Attention {
            heads,
            kv_heads,
            head_dim,
            ..
        } = attention;
        let (len, kv_len) = (n * heads * head_dim, n * kv_heads * head_dim);
        let mut dattended = vec![0.0; len];
        let output = &attention.output;
        self.linear(
            (ATTENTION_OUTPUT, 0),
            output,
            &weights.output,
            dx,
            &mut dattended,
        );

        let (mut dquery, mut dkey) = (vec![0.0; len], vec![0.0; kv_len]);
        let mut dvalue = vec![0.0; kv_len];
        let args = AttentionBackward {
            query: room(&mut self.scratch.query, len),
            key: room(&mut self.scratch.key, kv_len),
            value: room(&mut self.scratch.value, kv_len),
            dout: &dattended,
            n,
            heads,
            kv_heads,
            head_dim,
            scale: attention.scale,
            window: match attention.mask {
                Mask::Causal => None,
                Mask::SlidingWindow(window) => Some(window),
            },
        };
        let cpu = self.way.cpu;
        cpu.attention_backward(&args, &mut dquery, &mut dkey, &mut dvalue);
        if let Some(rope) = &attention.rope {
            // A rotation's transpose rotates by the opposite angles.
            self.scratch.angles.update(rope, std::iter::once(0..n));
            let cos = &self.scratch.angles.cos;
            let sin: Vec<f32> = self.scratch.angles.sin.iter().map(|sin| -sin).collect();
            let of = &mut [(&mut dquery[..], heads), (&mut dkey[..], kv_heads)];
            cpu.rope(of, n, head_dim, cos, &sin);
        }
        let (query, key) = (&weights.query, &weights.key);
        let query_norm = (attention.query_norm.as_ref()).zip(weights.query_norm.as_deref());
        let key_norm = (attention.key_norm.as_ref()).zip(weights.key_norm.as_deref());
        let dquery = self.head_norm((ATTENTION_INPUT, 0), query, query_norm, dquery);
        let dkey = self.head_norm((ATTENTION_INPUT, 1), key, key_norm, dkey);

        let mut dnormed = vec![0.0; x.len()];
        for (at, (spec, linear, dy)) in [
            (&attention.query, query, &dquery),
            (&attention.key, key, &dkey),
            (&attention.value, &weights.value, &dvalue),
        ]
        .into_iter()
        .enumerate()
        {
            self.linear((ATTENTION_INPUT, at), spec, linear, dy, &mut dnormed);
        }
        let norm = &spec.attention_norm;
        self.way
            .norm(norm, &weights.attention_norm, x, &dnormed, dx);
    }

    /// The way back through a norm of each head, if there is one, to the linear's result.
    fn head_norm(
        &mut self,
        place: (usize, usize),
        linear: &Linear,
        norm: Option<(&Norm, &[f32])>,
        dy: Vec<f32>,
    ) -> Vec<f32> {
        let Some((spec, weight)) = norm else {
            return dy;
        };
        let mut x = self.way.recorded.output(place).to_vec();
        linear.add_bias(self.way.cpu, &mut x, self.way.n);
        let mut dx = vec![0.0; x.len()];
        self.way.norm(spec, weight, &x, &dy, &mut dx);
        dx
    }

    /// The way back through a linear, at a place in the block: adds the gradient of its input to `dx`.
    fn linear(
        &mut self,
        (place, at): (usize, usize),
        spec: &LinearSpec,
        linear: &Linear,
        dy: &[f32],
        dx: &mut [f32],
    ) {
        let way = &mut *self.way;
        // What the observer may keep is borrowed from here, so the recording steps out for a moment.
        let recorded = std::mem::take(&mut way.recorded);
        let shown = LinearGradient {
            weight: &spec.weight,
            site: ModelSpec::block_site(self.layer, place),
            n: way.n,
            x: recorded.input(place),
            y: recorded.output((place, at)),
            dy,
        };
        way.show(spec.bias.as_deref(), &shown);
        way.recorded = recorded;
        let from = Outputs {
            dy,
            stride: linear.outputs,
            first: 0,
            n: way.n,
        };
        linear.add_backward(way.cpu, from, &mut way.strips, dx);
    }
}
