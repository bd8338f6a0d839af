//! The way back through attention.

use std::ops::Range;

use crate::float::rows::Softmax;
use crate::simd::{Kernel, LANES, Simd};
use crate::{Cpu, Disjoint};

/// Tokens whose scores are held at once.
const BLOCK: usize = 128;

/// The arguments of [`Cpu::attention_backward`]: causal attention over `n` positions, all of which
/// are there.
#[derive(Clone, Copy, Debug)]
pub struct AttentionBackward<'a> {
    /// n × heads × head_dim, after rotation.
    pub query: &'a [f32],
    /// n × kv_heads × head_dim, after rotation.
    pub key: &'a [f32],
    /// n × kv_heads × head_dim.
    pub value: &'a [f32],
    /// The gradient of the result, n × heads × head_dim.
    pub dout: &'a [f32],
    /// The number of tokens.
    pub n: usize,
    /// Heads of the query.
    pub heads: usize,
    /// Heads of key and value, which serve equal runs of the query's.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// Factor of the products of queries and keys.
    pub scale: f32,
    /// How many positions a token sees at most, itself included.
    pub window: Option<usize>,
}

impl AttentionBackward<'_> {
    /// The positions that token `t` sees.
    fn visible(&self, t: usize) -> Range<usize> {
        (t + 1).saturating_sub(self.window.unwrap_or(t + 1))..t + 1
    }
}

impl Cpu {
    /// The way back through [`Cpu::attention`] of the last `n` positions of a cache that holds no
    /// others: from the gradient of its result to those of query, key and value, in the shapes of
    /// these.
    ///
    /// Probabilities are computed again, a block of tokens at a time (as Dao et al. 2022 do), so memory
    /// grows with `n`, not with its square.
    ///
    /// # Panics
    /// If a length is wrong, or `heads` not a multiple of `kv_heads`.
    pub fn attention_backward(
        &self,
        args: &AttentionBackward<'_>,
        dquery: &mut [f32],
        dkey: &mut [f32],
        dvalue: &mut [f32],
    ) {
        let &AttentionBackward {
            n,
            heads,
            kv_heads,
            head_dim,
            ..
        } = args;
        let lens = [args.query.len(), args.dout.len(), dquery.len()];
        assert_eq!(lens, [n * heads * head_dim; 3], "n x heads x head_dim");
        let lens = [args.key.len(), args.value.len(), dkey.len(), dvalue.len()];
        assert_eq!(
            lens,
            [n * kv_heads * head_dim; 4],
            "n x kv_heads x head_dim"
        );
        assert!(args.window != Some(0), "a token sees at least itself");
        if n * heads * head_dim == 0 {
            return;
        }
        assert_eq!(heads % kv_heads, 0, "heads come in equal groups");
        let dquery = Heads::new(dquery, heads, head_dim);
        let (dkey, dvalue) = (
            Heads::new(dkey, kv_heads, head_dim),
            Heads::new(dvalue, kv_heads, head_dim),
        );
        // Products inside a task run on its thread alone, with the same bits.
        self.pool().run(kv_heads, &|kv_head| {
            let mut work = Work::new(self, args, kv_head);
            let group = heads / kv_heads;
            for head in kv_head * group..(kv_head + 1) * group {
                work.head(head);
                // SAFETY: every head is in one task.
                unsafe { dquery.write(head, &work.dquery) };
            }
            // SAFETY: every cache head is one task.
            unsafe {
                dkey.write(kv_head, &work.dkey);
                dvalue.write(kv_head, &work.dvalue);
            }
        });
    }
}

/// n × heads × head_dim, written head by head.
struct Heads<'a> {
    data: Disjoint<'a, f32>,
    heads: usize,
    head_dim: usize,
}

impl<'a> Heads<'a> {
    fn new(data: &'a mut [f32], heads: usize, head_dim: usize) -> Self {
        Self {
            data: Disjoint::new(data),
            heads,
            head_dim,
        }
    }

    /// Writes a head of all tokens; `from` is n × head_dim.
    ///
    /// # Safety
    /// Nobody else writes the same head.
    unsafe fn write(&self, head: usize, from: &[f32]) {
        for (token, from) in from.chunks_exact(self.head_dim).enumerate() {
            let start = (token * self.heads + head) * self.head_dim;
            // SAFETY: the head is the caller's.
            unsafe { self.data.slice(start..start + self.head_dim) }.copy_from_slice(from);
        }
    }
}

/// One cache head's share of the work, with its buffers.
struct Work<'a> {
    cpu: &'a Cpu,
    args: &'a AttentionBackward<'a>,
    kv_head: usize,
    /// head_dim × n.
    key: Vec<f32>,
    /// head_dim × n.
    value: Vec<f32>,
    /// n × head_dim.
    dquery: Vec<f32>,
    /// n × head_dim.
    dkey: Vec<f32>,
    /// n × head_dim.
    dvalue: Vec<f32>,
}

impl<'a> Work<'a> {
    fn new(cpu: &'a Cpu, args: &'a AttentionBackward<'a>, kv_head: usize) -> Self {
        let len = args.n * args.head_dim;
        let mut work = Self {
            cpu,
            args,
            kv_head,
            key: Vec::new(),
            value: Vec::new(),
            dquery: vec![0.0; len],
            dkey: vec![0.0; len],
            dvalue: vec![0.0; len],
        };
        work.key = work.columns(args.key, args.kv_heads, kv_head);
        work.value = work.columns(args.value, args.kv_heads, kv_head);
        work
    }

    /// A head of all tokens as head_dim × n.
    fn columns(&self, x: &[f32], heads: usize, head: usize) -> Vec<f32> {
        let &AttentionBackward { n, head_dim, .. } = self.args;
        let mut out = vec![0.0; n * head_dim];
        let first = head * head_dim;
        let cpu = self.cpu;
        cpu.transpose(x, heads * head_dim, n, first, head_dim, &mut out);
        out
    }

    /// One head of the query.
    fn head(&mut self, head: usize) {
        let args = self.args;
        let query = self.columns(args.query, args.heads, head);
        let dout = self.columns(args.dout, args.heads, head);
        self.dquery.fill(0.0);
        for first in (0..args.n).step_by(BLOCK) {
            self.block(head, &query, &dout, first..args.n.min(first + BLOCK));
        }
    }

    /// Some tokens of a head of the query.
    fn block(&mut self, head: usize, query: &[f32], dout: &[f32], tokens: Range<usize>) {
        let (cpu, args) = (self.cpu, self.args);
        let &AttentionBackward { n, head_dim, .. } = args;
        let seen = args.visible(tokens.start).start..tokens.end;
        let (count, width) = (tokens.len(), seen.len());
        let mut p = vec![0.0; count * width];
        let mut ds = vec![0.0; count * width];
        let (first, keys) = (&query[tokens.start..], &self.key[seen.start..]);
        cpu.gemm_tn(
            first, n, keys, n, &mut p, width, count, width, head_dim, 1.0,
        );
        let (first, values) = (&dout[tokens.start..], &self.value[seen.start..]);
        cpu.gemm_tn(
            first, n, values, n, &mut ds, width, count, width, head_dim, 1.0,
        );
        let rows = p.chunks_exact_mut(width).zip(ds.chunks_exact_mut(width));
        for (token, (p, ds)) in tokens.clone().zip(rows) {
            let visible = args.visible(token);
            cpu.isa().dispatch(Row {
                p,
                ds,
                visible: visible.start - seen.start..visible.end - seen.start,
                scale: args.scale,
            });
        }
        let stride = args.heads * head_dim;
        let rows = |x: &'a [f32]| &x[tokens.start * stride + head * head_dim..];
        let below = seen.start * head_dim..;
        let (dout, dvalue) = (rows(args.dout), &mut self.dvalue[below.clone()]);
        cpu.gemm_tn(
            &p, width, dout, stride, dvalue, head_dim, width, head_dim, count, 1.0,
        );
        let (query, dkey) = (rows(args.query), &mut self.dkey[below]);
        cpu.gemm_tn(
            &ds, width, query, stride, dkey, head_dim, width, head_dim, count, 1.0,
        );
        // The probabilities are done with: their room takes the transposed gradient.
        cpu.transpose(&ds, width, count, 0, width, &mut p);
        let stride = args.kv_heads * head_dim;
        let keys = &args.key[seen.start * stride + self.kv_head * head_dim..];
        let dquery = &mut self.dquery[tokens.start * head_dim..];
        cpu.gemm_tn(
            &p, count, keys, stride, dquery, head_dim, count, head_dim, width, 1.0,
        );
    }
}

/// A token's products with keys become probabilities, and the products of its gradient with values
/// the gradient of the former.
struct Row<'a> {
    p: &'a mut [f32],
    ds: &'a mut [f32],
    visible: Range<usize>,
    scale: f32,
}

impl Kernel for Row<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Range { start, end } = self.visible;
        for row in [&mut *self.p, &mut *self.ds] {
            row[..start].fill(0.0);
            row[end..].fill(0.0);
        }
        let (p, ds) = (&mut self.p[start..end], &mut self.ds[start..end]);
        let scale = s.splat(self.scale);
        for p in p.chunks_mut(LANES) {
            s.store_partial(s.mul(s.load_partial(p), scale), p);
        }
        Softmax { row: &mut *p }.run(s);
        let mut mean = s.splat(0.0);
        for (p, ds) in p.chunks(LANES).zip(ds.chunks(LANES)) {
            mean = s.fma(s.load_partial(p), s.load_partial(ds), mean);
        }
        let mean = s.splat(s.sum(mean));
        for (p, ds) in p.chunks(LANES).zip(ds.chunks_mut(LANES)) {
            let centred = s.sub(s.load_partial(ds), mean);
            let gradient = s.mul(s.load_partial(p), centred);
            s.store_partial(s.mul(gradient, scale), ds);
        }
    }
}
