//! The exact coder on every instruction set: the elements of the reference, the sizes that entropy allows.

use lagar_codec::exact::{ExactModel, ExactShape, ExactType, Method, reference};
use lagar_kernels::{Cpu, ExactSource, Isa};
use proptest::prelude::*;

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
        let (bytes, values) = self.part(chunk);
        original.clear();
        original.extend_from_slice(bytes);
        predicted.clear();
        predicted.extend_from_slice(values);
    }
}

impl Tensor {
    fn new(
        ty: ExactType,
        rows: usize,
        cols: usize,
        original: Vec<u8>,
        predicted: Vec<f32>,
    ) -> Self {
        let shape = ExactShape::new(rows, cols, ty).unwrap();
        assert_eq!(original.len(), rows * cols * ty.bytes());
        Self {
            shape,
            original,
            predicted,
        }
    }

    fn part(&self, chunk: usize) -> (&[u8], &[f32]) {
        let (rows, cols) = (self.shape.chunk_rows(chunk), self.shape.cols());
        let size = self.shape.element_bytes() * cols;
        let predicted = self.predicted.get(rows.start * cols..rows.end * cols);
        (
            &self.original[rows.start * size..rows.end * size],
            predicted.unwrap_or(&[]),
        )
    }

    /// Encodes with one and with two threads, decodes with every instruction set, and returns the method
    /// and the bytes of model and codes.
    fn check(&self) -> (Method, usize) {
        let (model, codes) = Cpu::new(Isa::Portable, 1).exact_encode(&self.shape, self);
        let again = Cpu::new(Isa::best(), 2).exact_encode(&self.shape, self);
        assert!(
            again == (model.clone(), codes.clone()),
            "threads change bytes"
        );
        let bytes = model.to_bytes();
        let model = ExactModel::from_bytes(self.shape, self.predicted(), &bytes).unwrap();
        for (chunk, code) in codes.iter().enumerate() {
            let (original, predicted) = self.part(chunk);
            let mut out = vec![0x55; original.len()];
            reference::decode_chunk(&model, chunk, code, predicted, &mut out).unwrap();
            assert!(out == original, "reference, chunk {chunk}");
            for isa in Isa::available() {
                out.fill(0x55);
                let cpu = Cpu::new(isa, 1);
                cpu.exact_decode(&model, chunk, code, predicted, &mut out)
                    .unwrap();
                assert!(out == original, "{isa}, chunk {chunk} of {:?}", self.shape);
            }
        }
        let size = bytes.len() + codes.iter().map(Vec::len).sum::<usize>();
        (model.method().clone(), size)
    }

    fn bits_per_weight(&self, size: usize) -> f64 {
        8.0 * size as f64 / (self.shape.rows() * self.shape.cols()) as f64
    }
}

/// Random bits, and numbers with a normal distribution.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x >> 33) as u32 ^ (x as u32) << 1
    }

    fn uniform(&mut self) -> f64 {
        (f64::from(self.bits()) + 0.5) / 4294967296.0
    }

    fn normal(&mut self) -> f32 {
        let (u, v) = (self.uniform(), self.uniform());
        ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    }
}

/// bf16 that are rounded from f32, with their entropy given means and a standard deviation.
fn rounded(values: &[f32]) -> Vec<u8> {
    let round = |value: &f32| ((value.to_bits() + 0x8000) >> 16) as u16;
    values.iter().flat_map(|v| round(v).to_le_bytes()).collect()
}

/// The mean of −log2 of the normal density at `errors` times the distance of bf16 at `values`.
fn ideal_bits(values: &[f32], errors: &[f32], sigma: f32) -> f64 {
    let bits = |(value, error): (&f32, &f32)| {
        let spacing = f64::from(f32::from_bits(value.to_bits() & 0x7f80_0000)) / 128.0;
        let sigma = f64::from(sigma);
        let x = f64::from(*error) / sigma;
        x * x / 2.0 / std::f64::consts::LN_2
            + (sigma * std::f64::consts::TAU.sqrt() / spacing).log2()
    };
    values.iter().zip(errors).map(bits).sum::<f64>() / values.len() as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_isa_gives_back_any_bits(
        ty in 0usize..5,
        rows in 1usize..60,
        cols in 1usize..400,
        seed in any::<u64>(),
        // What share of the elements are numbers, and how large these are.
        numbers in prop_oneof![Just(0.0f64), Just(1.0), 0.9f64..1.0],
        size in -60i32..60,
        predicted in any::<bool>(),
    ) {
        let ty = ExactType::ALL[ty];
        let mut random = Random(seed);
        let unit = 2f32.powi(size);
        let (mut original, mut predictions) = (Vec::new(), Vec::new());
        for _ in 0..rows * cols {
            let value = random.normal() * unit;
            let bits = if random.uniform() < numbers { value.to_bits() } else { random.bits() };
            original.extend(&bits.to_le_bytes()[4 - ty.bytes()..]);
            if predicted {
                predictions.push(value + unit * random.normal() / 16.0);
            }
        }
        Tensor::new(ty, rows, cols, original, predictions).check();
    }

    #[test]
    fn every_isa_treats_hostile_codes_as_the_reference_does(
        ty in 0usize..5,
        seed in any::<u64>(),
        flips in proptest::collection::vec((any::<u32>(), any::<u8>()), 1..4),
        cut in 0usize..40,
    ) {
        let ty = ExactType::ALL[ty];
        let mut random = Random(seed);
        let (rows, cols) = (16, 300);
        let values: Vec<f32> = (0..rows * cols).map(|_| random.normal()).collect();
        let original: Vec<u8> = values
            .iter()
            .flat_map(|v| v.to_bits().to_le_bytes()[4 - ty.bytes()..].to_vec())
            .collect();
        let predicted: Vec<f32> = values.iter().map(|v| v + random.normal() / 8.0).collect();
        let tensor = Tensor::new(ty, rows, cols, original, predicted);
        let (model, mut codes) = Cpu::new(Isa::Portable, 1).exact_encode(&tensor.shape, &tensor);
        let code = &mut codes[0];
        for (at, xor) in flips {
            let at = at as usize % code.len();
            code[at] ^= xor;
        }
        code.truncate(code.len() - cut);
        let mut expected = vec![0; tensor.original.len()];
        let result = reference::decode_chunk(&model, 0, code, &tensor.predicted, &mut expected);
        for isa in Isa::available() {
            let mut out = vec![0; expected.len()];
            let cpu = Cpu::new(isa, 1);
            let found = cpu.exact_decode(&model, 0, code, &tensor.predicted, &mut out);
            prop_assert_eq!(found.is_ok(), result.is_ok(), "{}", isa);
            if result.is_ok() {
                prop_assert!(out == expected, "{}", isa);
            }
        }
    }
}

#[test]
fn sizes_are_within_half_a_percent_of_the_entropy() {
    let (rows, cols) = (512, 512);
    let mut random = Random(3);
    let values: Vec<f32> = (0..rows * cols).map(|_| 0.02 * random.normal()).collect();
    let original = rounded(&values);
    let alone = Tensor::new(ExactType::Bf16, rows, cols, original.clone(), Vec::new());
    let found = alone.bits_per_weight(alone.check().1);
    let ideal = ideal_bits(&values, &values, 0.02);
    assert!(found < 1.005 * ideal, "{found} bits, ideally {ideal}");

    for sigma in [0.012f32, 0.004, 0.0015] {
        let errors: Vec<f32> = values.iter().map(|_| sigma * random.normal()).collect();
        let predicted: Vec<f32> = values.iter().zip(&errors).map(|(v, e)| v + e).collect();
        let after = Tensor::new(ExactType::Bf16, rows, cols, original.clone(), predicted);
        let found = after.bits_per_weight(after.check().1);
        let ideal = ideal_bits(&values, &errors, sigma);
        assert!(
            found < 1.005 * ideal,
            "{found} bits at {sigma}, ideally {ideal}"
        );
    }
}

#[test]
fn random_bits_do_not_grow_and_what_is_regular_shrinks() {
    let mut random = Random(5);
    let (rows, cols) = (48, 700);
    for ty in ExactType::ALL {
        let count = rows * cols;
        let bytes: Vec<u8> = (0..count * ty.bytes())
            .map(|_| random.bits() as u8)
            .collect();
        let size = Tensor::new(ty, rows, cols, bytes.clone(), Vec::new())
            .check()
            .1;
        assert!(
            size <= bytes.len() + 64,
            "random {ty:?}: {size} of {}",
            bytes.len()
        );

        let element = &bytes[..ty.bytes()];
        let equal = element.repeat(count);
        let size = Tensor::new(ty, rows, cols, equal, Vec::new()).check().1;
        assert!(size <= 64, "equal {ty:?}: {size}");

        // 16 values, as tensors have that were quantized before.
        let levels: Vec<u8> = (0..count)
            .flat_map(|_| bytes[random.bits() as usize % 16 * ty.bytes()..][..ty.bytes()].to_vec())
            .collect();
        let quantized = Tensor::new(ty, rows, cols, levels, Vec::new());
        let (method, size) = quantized.check();
        if ty.low_bits() == 0 {
            assert!(matches!(method, Method::Palette(_)), "{ty:?}");
            let bits = quantized.bits_per_weight(size);
            assert!(bits < 4.3, "16 levels of {ty:?}: {bits}");
        }
    }
}

#[test]
fn f32_that_were_bf16_or_f16_cost_nothing_for_the_zeros_behind() {
    let mut random = Random(7);
    let (rows, cols) = (64, 512);
    let values: Vec<f32> = (0..rows * cols).map(|_| random.normal()).collect();
    for (digits, most) in [(7, 10.8), (10, 13.9)] {
        let mask = !((1u32 << (23 - digits)) - 1);
        let cut = values.iter().map(|v| v.to_bits() & mask);
        let original = cut.flat_map(u32::to_le_bytes).collect();
        let tensor = Tensor::new(ExactType::F32, rows, cols, original, Vec::new());
        let bits = tensor.bits_per_weight(tensor.check().1);
        assert!(bits < most, "{bits} bits with {digits} digits");
    }
}

#[test]
fn zeros_are_cheap_among_numbers_and_outliers_do_not_spoil_a_row() {
    let mut random = Random(11);
    let (rows, cols) = (64, 1024);
    let sparse: Vec<f32> = (0..rows * cols)
        .map(|_| {
            if random.bits().is_multiple_of(2) {
                0.0
            } else {
                random.normal()
            }
        })
        .collect();
    let tensor = Tensor::new(ExactType::Bf16, rows, cols, rounded(&sparse), Vec::new());
    let bits = tensor.bits_per_weight(tensor.check().1);
    assert!(bits < 6.4, "half are zeros: {bits}");

    let mut outliers: Vec<f32> = (0..rows * cols).map(|_| random.normal()).collect();
    for row in outliers.chunks_mut(cols) {
        row[random.bits() as usize % cols] = 1e30;
        row[random.bits() as usize % cols] = f32::INFINITY;
    }
    let tensor = Tensor::new(ExactType::Bf16, rows, cols, rounded(&outliers), Vec::new());
    let bits = tensor.bits_per_weight(tensor.check().1);
    assert!(bits < 10.7, "with outliers: {bits}");
}

#[test]
fn a_prediction_that_is_the_tensor_leaves_next_to_nothing() {
    let mut random = Random(13);
    let (rows, cols) = (64, 1024);
    let values: Vec<f32> = (0..rows * cols).map(|_| random.normal()).collect();
    let original = rounded(&values);
    let predicted: Vec<f32> = original
        .as_chunks()
        .0
        .iter()
        .map(|&bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16))
        .collect();
    let tensor = Tensor::new(ExactType::Bf16, rows, cols, original, predicted);
    let bits = tensor.bits_per_weight(tensor.check().1);
    assert!(bits < 0.05, "{bits}");
}
