//! The exact coder's definition: whatever is encoded comes back, and no bytes make it panic.

use lagar_codec::exact::{
    ChunkEncoder, ExactModel, ExactShape, ExactType, Method, Palette, Profile, SLOTS, Scaled,
    Scales, reference,
};
use proptest::prelude::*;

fn types() -> impl Strategy<Value = ExactType> {
    (0..ExactType::ALL.len()).prop_map(|i| ExactType::ALL[i])
}

/// Bits of any kind, with more of those that numbers need care with.
fn elements() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        (0u32..1 << 16).prop_map(|bits| bits << 16),
        (-3.0f32..3.0).prop_map(f32::to_bits),
        Just(0),
        Just(0x8000_0000),
        Just(f32::INFINITY.to_bits()),
        Just(f32::NEG_INFINITY.to_bits()),
        Just(0x7fc1_2345),
        Just(0xff81_0001),
        Just(0x0000_0001),
        Just(0x0040_0000),
    ]
}

/// Elements of a type, cut out of 32 bits each.
fn bytes_of(ty: ExactType, elements: &[u32]) -> Vec<u8> {
    let keep = ty.bytes();
    let bytes = |element: &u32| element.to_le_bytes()[4 - keep..].to_vec();
    elements.iter().flat_map(bytes).collect()
}

fn scaled_model(
    shape: ExactShape,
    predicted: bool,
    scales: (i16, i16),
    depth: u8,
    specials: (u16, u16),
) -> ExactModel {
    let each = |count: usize, step: i16| {
        Scales::Each(
            (0..count)
                .map(|i| scales.0 + (i as i16 % 5) * step)
                .collect(),
        )
    };
    let cols = match scales.1 {
        0 => Scales::Equal(0),
        step => Scales::Each((0..shape.cols()).map(|i| (i as i16 % 3) * step).collect()),
    };
    let scaled = Scaled::new(
        each(shape.rows(), scales.1),
        cols,
        depth,
        Profile::normal(),
        specials.0,
        specials.1,
    );
    let low = shape.ty().low_bits() as u8;
    ExactModel::new(shape, predicted, low, Method::Scaled(scaled.unwrap())).unwrap()
}

/// Encodes and decodes all chunks of a tensor.
fn round_trip(model: &ExactModel, original: &[u8], predicted: &[f32]) {
    let shape = model.shape();
    let read = ExactModel::from_bytes(*shape, model.predicted(), &model.to_bytes()).unwrap();
    assert_eq!(&read, model);
    let encoder = ChunkEncoder::new(model);
    for chunk in 0..shape.chunks() {
        let rows = shape.chunk_rows(chunk);
        let weights = rows.start * shape.cols()..rows.end * shape.cols();
        let size = shape.element_bytes();
        let original = &original[weights.start * size..weights.end * size];
        let predicted = predicted.get(weights).unwrap_or(&[]);
        let code = encoder.encode(chunk, original, predicted);
        assert!(code.len() <= original.len() + 1);
        let mut out = vec![0xaa; original.len()];
        reference::decode_chunk(&read, chunk, &code, predicted, &mut out).unwrap();
        assert!(out == original, "chunk {chunk} of {shape:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_bits_come_back(
        ty in types(),
        rows in 1usize..70,
        cols in 1usize..150,
        elements in proptest::collection::vec(elements(), 1..400),
        predictions in proptest::collection::vec(elements(), 0..50),
        scales in (-200i16..1300, -9i16..9),
        depth in 0u8..=7,
        specials in (0u16..300, 1u16..300),
        near in any::<bool>(),
    ) {
        let shape = ExactShape::new(rows, cols, ty).unwrap();
        let all: Vec<u32> = (0..rows * cols).map(|i| elements[(i + i / 7) % elements.len()]).collect();
        let original = bytes_of(ty, &all);
        let predicted: Vec<f32> = if predictions.is_empty() {
            Vec::new()
        } else if near {
            all.iter().map(|&bits| f32::from_bits(bits) * 1.01).collect()
        } else {
            (0..all.len()).map(|i| f32::from_bits(predictions[i % predictions.len()])).collect()
        };
        let model = scaled_model(shape, !predicted.is_empty(), scales, depth, specials);
        round_trip(&model, &original, &predicted);
        round_trip(&ExactModel::raw(shape, !predicted.is_empty()), &original, &predicted);
    }

    #[test]
    fn palettes_come_back_and_so_does_what_they_lack(
        ty in types(),
        values in prop_oneof![
            proptest::collection::btree_set(any::<u8>(), 1..40),
            any::<u8>().prop_map(|missing| (0..=255).filter(|&value| value != missing).collect()),
        ],
        picks in proptest::collection::vec(any::<u8>(), 2..300),
    ) {
        let values: Vec<u16> = values.into_iter().map(u16::from).collect();
        let share = (SLOTS as usize / (values.len() + 1)) as u16;
        let frequencies = vec![share; values.len()];
        let escape = SLOTS as u16 - share * values.len() as u16;
        let palette = Palette::new(values, frequencies, escape).unwrap();
        let cols = 40;
        let shape = ExactShape::new(50, cols, ty).unwrap();
        let original: Vec<u8> = (0..50 * cols)
            .flat_map(|i| {
                let high = u32::from(picks[(i * 7 + i / 3) % picks.len()]);
                let bits = if ty == ExactType::F32 { high << 16 | 77 } else { high };
                bits.to_le_bytes()[..ty.bytes()].to_vec()
            })
            .collect();
        let low = ty.low_bits() as u8;
        let model = ExactModel::new(shape, false, low, Method::Palette(palette)).unwrap();
        round_trip(&model, &original, &[]);
    }

    #[test]
    fn hostile_models_are_refused_or_decode(
        ty in types(),
        kind in 0u8..4,
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        code in proptest::collection::vec(any::<u8>(), 0..600),
        predicted in any::<bool>(),
    ) {
        let shape = ExactShape::new(5, 33, ty).unwrap();
        let mut model = vec![kind];
        model.extend(bytes);
        if let Ok(model) = ExactModel::from_bytes(shape, predicted, &model) {
            prop_assert_eq!(ExactModel::from_bytes(shape, predicted, &model.to_bytes()).unwrap(), model.clone());
            decode_hostile(&model, code);
        }
    }

    #[test]
    fn hostile_codes_are_refused_or_decode(
        ty in types(),
        scales in (-200i16..1300, -9i16..9),
        code in proptest::collection::vec(any::<u8>(), 0..900),
    ) {
        let shape = ExactShape::new(5, 33, ty).unwrap();
        decode_hostile(&scaled_model(shape, true, scales, 3, (7, 9)), code.clone());
        decode_hostile(&scaled_model(shape, false, scales, 0, (7, 9)), code);
    }
}

fn decode_hostile(model: &ExactModel, mut code: Vec<u8>) {
    let shape = model.shape();
    let weights = shape.rows() * shape.cols();
    let predicted: Vec<f32> = (0..if model.predicted() { weights } else { 0 })
        .map(|i| f32::from_bits((i as u32).wrapping_mul(0x9e37_79b9)))
        .collect();
    let mut out = vec![0; shape.chunk_bytes(0)];
    let _ = reference::decode_chunk(model, 0, &code, &predicted, &mut out);
    if let [kind, a, b, c, ..] = &mut code[..] {
        (*kind, *a, *b, *c) = (2, *a % 8, 0, 0);
    }
    let _ = reference::decode_chunk(model, 0, &code, &predicted, &mut out);
}

#[test]
fn every_damaged_byte_of_a_code_is_noticed_or_changes_only_what_hashes_find() {
    let shape = ExactShape::new(16, 40, ExactType::Bf16).unwrap();
    let values: Vec<u32> = (0..640)
        .map(|i| ((i as f32 * 12.9898).sin() * 0.05).to_bits())
        .collect();
    let original = bytes_of(ExactType::Bf16, &values);
    let model = scaled_model(shape, false, (484, 0), 0, (0, 3));
    let code = ChunkEncoder::new(&model).encode(0, &original, &[]);
    assert_eq!(code[0], 2, "it is coded");
    let mut out = vec![0; original.len()];
    reference::decode_chunk(&model, 0, &code, &[], &mut out).unwrap();
    assert_eq!(out, original);
    for at in 0..code.len() {
        let mut damaged = code.clone();
        damaged[at] ^= 0x10;
        match reference::decode_chunk(&model, 0, &damaged, &[], &mut out) {
            Ok(()) => assert_ne!(out, original, "byte {at} means nothing"),
            Err(error) => assert!(error.to_string().contains("chunk 0"), "{error}"),
        }
    }
    for length in 0..code.len() {
        let short = reference::decode_chunk(&model, 0, &code[..length], &[], &mut out);
        assert!(short.is_err(), "{length} of {} bytes", code.len());
    }
}

#[test]
fn chunks_are_bands_of_whole_rows_that_cover_the_tensor() {
    for (rows, cols) in [(1, 1), (17, 3), (100, 4096), (5000, 33), (40, 100_000)] {
        let shape = ExactShape::new(rows, cols, ExactType::F16).unwrap();
        let mut next = 0;
        for chunk in 0..shape.chunks() {
            let range = shape.chunk_rows(chunk);
            assert!(range.start == next && range.end > range.start);
            assert!(range.start.is_multiple_of(16));
            assert!(shape.chunk_weights(chunk) <= 65536.max(16 * cols));
            next = range.end;
        }
        assert_eq!(next, rows);
    }
    assert!(ExactShape::new(0, 5, ExactType::F32).is_err());
    assert!(ExactShape::new(5, 0, ExactType::F32).is_err());
    assert!(ExactShape::new(usize::MAX, 2, ExactType::F32).is_err());
    assert!(ExactShape::new(usize::MAX / 16, 3, ExactType::F8E5M2).is_err());
}

#[test]
fn numbers_of_small_types_are_taken_apart_as_their_values_say() {
    // OCP 8-bit floating point specification: bias 7 and 15.
    let value = |ty: ExactType, high: u32| {
        let fields = ty.fields(high)?;
        let digits = f64::from(fields.significand) * 2f64.powi(1 - ty.significand_bits() as i32);
        let size = digits * 2f64.powi(fields.exponent as i32 - 127);
        Some(if fields.negative { -size } else { size })
    };
    for (ty, high, expected) in [
        (ExactType::F8E4M3, 0x7e, Some(448.0)),
        (ExactType::F8E4M3, 0x81, Some(-0.001953125)),
        (ExactType::F8E4M3, 0x7f, None),
        (ExactType::F8E5M2, 0x7b, Some(57344.0)),
        (ExactType::F8E5M2, 0x01, Some(1.52587890625e-5)),
        (ExactType::F8E5M2, 0x7c, None),
        (ExactType::F16, 0x3c00, Some(1.0)),
        (ExactType::F16, 0x0008, Some(4.76837158203125e-7)),
        (ExactType::F16, 0xfbf8, Some(-65280.0)),
        (ExactType::Bf16, 0x3f80, Some(1.0)),
        (ExactType::Bf16, 0x0001, None),
        (ExactType::F32, 0x0000, None),
    ] {
        assert_eq!(value(ty, high), expected, "{ty:?} {high:#x}");
    }
    // And put together again.
    for ty in [
        ExactType::F16,
        ExactType::F8E4M3,
        ExactType::F8E5M2,
        ExactType::Bf16,
    ] {
        for high in 0..1u32 << (8 * ty.high_bytes()) {
            let high = if ty == ExactType::F16 {
                high & !7
            } else {
                high
            };
            if let Some(fields) = ty.fields(high) {
                let pattern = u32::from(fields.negative) << 31
                    | fields.exponent << 23
                    | (fields.significand << (24 - ty.significand_bits()) & 0x7f_ffff);
                assert_eq!(ty.high_of_pattern(pattern), high, "{ty:?}");
            }
        }
        assert_eq!(ty.high_of_pattern(0), 0, "{ty:?}");
    }
}
