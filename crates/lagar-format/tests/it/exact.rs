//! The exact section's part of the index: what contradicts itself is refused, each for its own
//! reason.

use std::sync::OnceLock;

use lagar_format::{
    Blob, Body, Coding, Dtype, Exact, ExactBody, FormatError, Index, PIECE_BYTES, Problem, Segment,
};
use proptest::prelude::*;

use crate::index_file::{encode, encode_index, encode_version, new_numbers, with_numbers};
use crate::sample;

/// The sample's index as written, with the bytes of its sections.
fn sample() -> (Index, Vec<u8>) {
    static SAMPLE: OnceLock<(Index, Vec<u8>)> = OnceLock::new();
    let make = || {
        let file = sample::write(sample::exact_writer());
        let container = sample::open(file.clone()).unwrap();
        let sections = container.index().tiers.last().unwrap().end as usize;
        (
            container.index().clone(),
            file[file.len() - sections..].to_vec(),
        )
    };
    SAMPLE.get_or_init(make).clone()
}

/// Changes the sample's index and expects a problem that matches, in a place that starts so.
#[track_caller]
fn refused(place: &str, change: impl FnOnce(&mut Index), matches: impl FnOnce(&Problem) -> bool) {
    let (mut index, data) = sample();
    change(&mut index);
    match sample::open(encode_index(&index, &data)) {
        Err(FormatError::Index {
            place: found,
            problem,
        }) => {
            assert!(
                found.starts_with(place) && matches(&problem),
                "{found}: {problem}"
            );
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
}

macro_rules! refused {
    ($place:expr, $change:expr, $problem:pat) => {
        refused($place, $change, |problem| matches!(problem, $problem))
    };
}

fn exact(index: &mut Index, tensor: usize) -> &mut Exact {
    index.tensors[tensor].exact.as_mut().unwrap()
}

fn stored(index: &mut Index, tensor: usize) -> &mut Blob {
    match &mut exact(index, tensor).body {
        ExactBody::Stored(blob) => blob,
        other => panic!("{other:?}"),
    }
}

/// The file that is compressed in two pieces.
fn readme(index: &mut Index) -> &mut Blob {
    match &mut index.source[2].segments[0] {
        Segment::Bytes(blob) => blob,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_sample_is_accepted_and_every_prefix_of_it_is_a_file() {
    let file = sample::write(sample::exact_writer());
    let whole = sample::open_and_check(file.clone()).unwrap();
    assert_eq!(whole.index().full_tier(), Some(2));
    for tier in 0..3 {
        let end = whole.tier_bytes(tier).unwrap() as usize;
        let prefix = sample::open_and_check(file[..end].to_vec()).unwrap();
        assert_eq!(prefix.index(), whole.index());
        assert_eq!(prefix.tiers_complete(), tier + 1);
    }
    let (index, data) = sample();
    sample::open_and_check(encode_index(&index, &data)).unwrap();
}

#[test]
fn an_exact_section_is_there_as_a_whole_or_not_at_all() {
    let rename = |i: &mut Index| i.tiers[2].name = "RGB".to_owned();
    refused!("tensors[0]", rename, Problem::NoExactSection { .. });
    refused!(
        "source[0]",
        |i| {
            rename(i);
            i.tensors.truncate(3);
            i.tensors.iter_mut().for_each(|t| t.exact = None);
        },
        Problem::NoExactSection { .. }
    );
    refused!(
        "tensors[3]",
        |i| {
            rename(i);
            i.tensors.iter_mut().for_each(|t| t.exact = None);
        },
        Problem::NoExactSection { what: "body" }
    );
    refused!(
        "tensors[1]",
        |i| i.tensors[1].exact = None,
        Problem::Missing
    );
    refused!(
        "source[1]",
        |i| i.source[1].segments.clear(),
        Problem::Mismatch { expected: 39, .. }
    );
    refused!(
        "tiers[1]",
        |i| {
            i.tiers[1].name = "full".to_owned();
            i.tiers[2].name = "fuller".to_owned();
            i.tensors.iter_mut().for_each(|t| t.exact = None);
            i.tensors.truncate(3);
            i.source.iter_mut().for_each(|f| f.segments.clear());
        },
        Problem::NotLast { tiers: 3 }
    );
    // Stages lie below it.
    refused!(
        "tensors[0]",
        |i| {
            let Body::Linear { stages, .. } = &mut i.tensors[0].body else {
                panic!("a linear");
            };
            let lagar_format::Stage::Window(stage) = &mut stages[1] else {
                panic!("a window");
            };
            stage.tier = 2;
        },
        Problem::WrongTier { .. }
    );
}

#[test]
fn segments_must_add_up_and_refer_to_what_is_there() {
    refused!(
        "source[0]",
        |i| i.source[0].bytes += 1,
        Problem::Mismatch { .. }
    );
    refused!(
        "source[3]",
        |i| i.source[3].bytes = 1,
        Problem::Mismatch { .. }
    );
    refused!(
        "source[0]",
        |i| {
            i.source[0].segments.pop();
        },
        Problem::Mismatch { .. }
    );
    refused!(
        "source[0]",
        |i| i.source[0].segments[1] = Segment::Tensor(6),
        Problem::Reference { what: "tensor", .. }
    );
    refused!(
        "source[1]",
        |i| i.source[1].segments[0] = Segment::Stored("x".to_owned()),
        Problem::Text { .. }
    );
    refused!(
        "source[2]",
        |i| readme(i).part = 1,
        Problem::WrongTier { .. }
    );
    refused!(
        "source[2]",
        |i| readme(i).part = 1000,
        Problem::Reference { what: "part", .. }
    );
    refused!(
        "source[2]",
        |i| readme(i).coding = Coding::Raw,
        Problem::Mismatch { .. }
    );
    refused!(
        "source[2]",
        |i| readme(i).bytes = 2 * PIECE_BYTES + 1,
        Problem::Mismatch { .. }
    );
    refused!(
        "source[2]",
        |i| readme(i).lengths[1] += 1,
        Problem::Mismatch { .. }
    );
    refused!(
        "source[2]",
        |i| readme(i).lengths[0] = 9,
        Problem::Range { .. }
    );
    refused!(
        "source[2]",
        |i| readme(i).lengths = vec![u64::MAX, u64::MAX],
        Problem::Overflow { .. }
    );
}

#[test]
fn source_names_are_those_of_files_that_can_all_be_created() {
    refused!(
        "source[1]",
        |i| i.source[1].name = "docs".to_owned(),
        Problem::Text { .. }
    );
    refused!(
        "source[3]",
        |i| i.source[3].name = "docs/README.md".to_owned(),
        Problem::DuplicateName
    );
    for name in [
        "docs//x",
        "/docs",
        "docs/..",
        "docs/../../x",
        "docs/",
        "docs/nul:",
        "a\\b/c",
    ] {
        refused!(
            "source[3]",
            |i| i.source[3].name = name.to_owned(),
            Problem::Text { .. }
        );
    }
}

#[test]
fn exact_bodies_must_fit_their_tensors() {
    refused!(
        "tensors[0]",
        |i| exact(i, 0).blake3.truncate(9),
        Problem::Text { .. }
    );
    refused!(
        "tensors[1]",
        |i| stored(i, 1).bytes -= 1,
        Problem::Mismatch { .. }
    );
    refused!(
        "tensors[1]",
        |i| stored(i, 1).part = 2,
        Problem::WrongTier { .. }
    );
    refused!(
        "tensors[1]",
        |i| stored(i, 1).lengths.push(1),
        Problem::Mismatch { .. }
    );
    refused!(
        "tensors[1]",
        |i| i.tensors[1].dtype = Dtype::F64,
        Problem::Mismatch { .. }
    );
    // A raw body is the original only if it has its type.
    refused!(
        "tensors[5]",
        |i| i.tensors[5].dtype = Dtype::I8,
        Problem::ExactBody { .. }
    );
    refused!(
        "tensors[3]",
        |i| exact(i, 3).body = ExactBody::Raw,
        Problem::ExactBody { .. }
    );
    refused!(
        "tensors[0]",
        |i| exact(i, 0).body = ExactBody::Raw,
        Problem::ExactBody { .. }
    );
    // Ties end after one step, at the same bytes.
    refused!(
        "tensors[4]",
        |i| exact(i, 4).body = ExactBody::Same(4),
        Problem::ExactBody { .. }
    );
    refused!(
        "tensors[4]",
        |i| exact(i, 4).body = ExactBody::Same(3),
        Problem::Mismatch { .. }
    );
    refused!(
        "tensors[4]",
        |i| exact(i, 4).body = ExactBody::Same(6),
        Problem::Reference { .. }
    );
    refused!(
        "tensors[4]",
        |i| exact(i, 4).blake3 = "0".repeat(64),
        Problem::ExactBody { .. }
    );
}

#[test]
fn coded_tensors_must_be_matrices_with_parts_for_their_chunks() {
    let coded = |model, lengths, codes| ExactBody::Coded {
        model,
        lengths,
        codes,
    };
    let (index, _) = sample();
    let Some(&ExactBody::Coded {
        model,
        lengths,
        codes,
    }) = index.tensors[0].exact.as_ref().map(|exact| &exact.body)
    else {
        panic!("the first tensor is coded");
    };
    for body in [
        coded(0, lengths, codes),
        coded(model, 1, codes),
        coded(model, lengths, 2),
    ] {
        refused!(
            "tensors[0]",
            |i| exact(i, 0).body = body,
            Problem::WrongTier { .. }
        );
    }
    refused!(
        "tensors[0]",
        |i| exact(i, 0).body = coded(model, codes, lengths),
        Problem::Mismatch {
            what: "bytes of the chunk lengths",
            ..
        }
    );
    refused!(
        "tensors[0]",
        |i| exact(i, 0).body = coded(99, lengths, codes),
        Problem::Reference { .. }
    );
    for dtype in [Dtype::U16, Dtype::I16] {
        refused!(
            "tensors[0]",
            |i| i.tensors[0].dtype = dtype,
            Problem::ExactBody { .. }
        );
    }
    for shape in [vec![6000], vec![], vec![0, 300], vec![2, (1 << 20) + 1]] {
        refused!(
            "tensors[3]",
            |i| {
                i.tensors[3].shape = shape;
                i.tensors[3].dtype = Dtype::F32;
                exact(i, 3).body = coded(model, lengths, codes);
            },
            Problem::ExactBody { .. }
        );
    }
    // 2000 rows are seven chunks of 13 bands.
    refused!(
        "tensors[3]",
        |i| {
            i.tensors[3].shape = vec![20, 100, 300];
            i.tensors[3].dtype = Dtype::F16;
            exact(i, 3).body = coded(model, lengths, codes);
        },
        Problem::Mismatch { expected: 40, .. }
    );
}

#[test]
fn an_older_version_has_none_of_it() {
    let (index, data) = sample();
    let version_1 = |index: &Index| {
        let json = serde_json::to_vec(index).unwrap();
        sample::open(encode_version(1, &json, &data))
    };
    let refused = |index: &Index, place: &str| match version_1(index) {
        Err(FormatError::Index {
            place: found,
            problem: Problem::NewerVersion { needed: 2 },
        }) => assert!(found.starts_with(place), "{found}"),
        other => panic!("{:?}", other.map(|_| ())),
    };
    refused(&index, "source[0]");
    let mut bare = index.clone();
    bare.source
        .iter_mut()
        .for_each(|file| file.segments.clear());
    refused(&bare, "source[2]");
    bare.source.truncate(2);
    refused(&bare, "tiers[2]");
    bare.tiers[2].name = "RGB".to_owned();
    refused(&bare, "tensors[0]");
    bare.tensors
        .iter_mut()
        .for_each(|tensor| tensor.exact = None);
    refused(&bare, "tensors[3]");
    bare.tensors.truncate(3);
    version_1(&bare).unwrap();
}

#[test]
fn optional_fields_are_left_out_rather_than_empty() {
    let (index, data) = sample();
    let json = serde_json::to_string(&index).unwrap();
    for (from, to) in [
        ("\"coding\":\"raw\"", "\"coding\":\"raw\",\"lengths\":[]"),
        (
            "\"name\":\"docs/empty\"",
            "\"name\":\"docs/empty\",\"segments\":[]",
        ),
        ("\"coding\":\"raw\"", "\"coding\":\"zstd\""),
        ("{\"same\":0}", "{\"other\":0}"),
    ] {
        let changed = json.replacen(from, to, 1);
        assert_ne!(changed, json);
        let error = sample::open(encode(changed.as_bytes(), &data)).unwrap_err();
        assert!(matches!(error, FormatError::Json { .. }), "{error}");
    }
}

#[test]
fn parts_of_the_section_are_named_in_messages() {
    let (index, _) = sample();
    let named: Vec<String> = (0..index.parts.len())
        .filter(|&part| index.parts[part].tier == 2)
        .map(|part| index.describe_part(part))
        .collect();
    assert_eq!(
        named,
        [
            "bytes of the source file \"model.safetensors\"",
            "exact bytes of tensor \"model.norm.weight\"",
            "exact bytes of tensor \"empty\"",
            "exact bytes of tensor \"counts\"",
            "tensor \"raw\"",
            "bytes of the source file \"docs/README.md\"",
            "exact tables of tensor \"model.layers.0.mlp.up_proj.weight\"",
            "exact chunk lengths of tensor \"model.layers.0.mlp.up_proj.weight\"",
            "exact codes of tensor \"model.layers.0.mlp.up_proj.weight\"",
        ]
    );
}

proptest! {
    /// Whatever numbers stand in an index, what is accepted can be read without a panic.
    #[test]
    fn any_numbers_are_accepted_or_refused(numbers in new_numbers()) {
        let (index, data) = sample();
        let json = with_numbers(&index, &numbers);
        let Ok(container) = sample::open(encode(json.as_bytes(), &data)) else {
            return Ok(());
        };
        let index = container.index();
        for file in &index.source {
            for segment in &file.segments {
                if let Segment::Bytes(blob) = segment {
                    read(&container, blob);
                }
            }
        }
        for tensor in &index.tensors {
            let _ = tensor.bytes();
            if let Some(Exact { body: ExactBody::Stored(blob), .. }) = &tensor.exact {
                read(&container, blob);
            }
        }
        let _ = container.check(container.tiers_complete() - 1, |_, _| {});
    }
}

fn read(container: &lagar_format::Container, blob: &Blob) {
    for piece in 0..blob.bytes.div_ceil(PIECE_BYTES) {
        let _ = container.blob_piece(blob, piece);
    }
}
