//! Indexes that contradict themselves or the format are refused, each for its own reason.

use lagar_format::{Body, FormatError, Index, Levels, Limits, Problem, Stage, WindowStage};
use proptest::prelude::*;

use crate::index_file::{encode, encode_index, new_numbers, with_numbers};
use crate::sample;

/// The sample's index as written, with the bytes of its sections.
fn sample() -> (Index, Vec<u8>) {
    let file = sample::write(sample::writer());
    let container = sample::open(file.clone()).unwrap();
    let sections = container.index().tiers.last().unwrap().end as usize;
    (
        container.index().clone(),
        file[file.len() - sections..].to_vec(),
    )
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

fn window(index: &mut Index, number: usize) -> &mut WindowStage {
    match &mut index.tensors[0].body {
        Body::Linear { stages, .. } => match &mut stages[number] {
            Stage::Window(stage) => stage,
            other => panic!("{other:?}"),
        },
        Body::Raw { .. } | Body::Exact => panic!("the first tensor is a linear"),
    }
}

fn raw_parts(index: &mut Index) -> &mut Vec<usize> {
    match &mut index.tensors[1].body {
        Body::Raw { parts, .. } => parts,
        Body::Linear { .. } | Body::Exact => panic!("the second tensor is raw"),
    }
}

macro_rules! refused {
    ($place:expr, $change:expr, $problem:pat) => {
        refused($place, $change, |problem| matches!(problem, $problem))
    };
}

#[test]
fn the_independent_encoder_agrees_with_the_writer() {
    let (index, data) = sample();
    let container = sample::open_and_check(encode_index(&index, &data)).unwrap();
    assert_eq!(container.index(), &index);
}

#[test]
fn parts_must_be_ordered_aligned_and_within_their_section() {
    refused!(
        "parts[1]",
        |i| i.parts[1].offset -= 64,
        Problem::Overlap { .. }
    );
    refused!(
        "parts[1]",
        |i| i.parts[1].offset = 0,
        Problem::Overlap { .. }
    );
    refused!(
        "parts[1]",
        |i| i.parts[1].offset += 8,
        Problem::Unaligned { .. }
    );
    refused!(
        "parts[1]",
        |i| i.parts[1].offset += 4096,
        Problem::Hole { .. }
    );
    refused!("parts[0]", |i| i.parts[0].offset = 64, Problem::Hole { .. });
    refused!(
        "parts[0]",
        |i| i.parts[0].bytes = u64::MAX,
        Problem::Overflow { .. }
    );
    refused!(
        "parts[0]",
        |i| i.parts[0].bytes = i64::MAX as u64,
        Problem::Overflow { .. }
    );
    refused!(
        "parts[1]",
        |i| i.parts[1].offset = u64::MAX - 63,
        Problem::Hole { .. }
    );
    refused!("parts[2]", |i| i.parts.swap(1, 2), Problem::Overlap { .. });
    refused!(
        "parts[2]",
        |i| i.parts[2].bytes += 8 << 20,
        Problem::Mismatch { .. }
    );
    refused!(
        "parts[2]",
        |i| i.parts[2].crc32c.push(0),
        Problem::Mismatch { .. }
    );
    refused!(
        "parts[2]",
        |i| i.parts[2].crc32c.clear(),
        Problem::Mismatch { .. }
    );
    refused!(
        "parts[0]",
        |i| i.parts[0].tier = 1,
        Problem::WrongTier { .. }
    );
    refused!(
        "parts[3]",
        |i| i.parts[3].tier = usize::MAX,
        Problem::WrongTier { .. }
    );
    refused!(
        "parts[",
        |i| {
            i.parts.last_mut().unwrap().tier = 2;
        },
        Problem::Reference { what: "tier", .. }
    );
    refused!(
        "parts[",
        |i| i.parts.last_mut().unwrap().tier = 0,
        Problem::WrongTier { .. }
    );
}

#[test]
fn tiers_must_be_named_once_filled_and_end_where_their_parts_end() {
    refused!("tiers", |i| i.tiers.clear(), Problem::Missing);
    refused!("parts of tiers[0]", |i| i.parts.clear(), Problem::Missing);
    refused!(
        "tiers[0]",
        |i| i.tiers[0].end += 1,
        Problem::Mismatch { .. }
    );
    refused!(
        "tiers[1]",
        |i| i.tiers[1].end = u64::MAX,
        Problem::Mismatch { .. }
    );
    refused!(
        "tiers[1]",
        |i| i.tiers[1].name = "R".to_owned(),
        Problem::DuplicateName
    );
    refused!(
        "tiers[1]",
        |i| i.tiers[1].name.clear(),
        Problem::Text { .. }
    );
    refused!(
        "parts of tiers[2]",
        |i| {
            let tier = lagar_format::Tier {
                name: "RGB".to_owned(),
                end: 0,
            };
            i.tiers.push(tier);
        },
        Problem::Missing
    );
}

#[test]
fn names_must_be_unique_and_harmless() {
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "..\\b",
        "C:",
        "a\0",
        "a\nb",
        "\u{1b}[2J",
        "\u{202e}txt",
        "a.",
    ] {
        refused!(
            "files[0]",
            |i| i.files[0].name = name.to_owned(),
            Problem::Text { .. }
        );
        if name != "a/b" {
            refused!(
                "source[0]",
                |i| i.source[0].name = name.to_owned(),
                Problem::Text { .. }
            );
        }
    }
    for name in ["/a", "a/", "a//b", "../a", "a/../b", "a/./b", "/", "a/C:/b"] {
        refused!(
            "source[0]",
            |i| i.source[0].name = name.to_owned(),
            Problem::Text { .. }
        );
    }
    let long = "x".repeat(256);
    refused!("files[0]", |i| i.files[0].name = long, Problem::Text { .. });
    refused!(
        "files[1]",
        |i| i.files.push(i.files[0].clone()),
        Problem::DuplicateName
    );
    refused!(
        "source[1]",
        |i| i.source.push(i.source[0].clone()),
        Problem::DuplicateName
    );
    refused!(
        "tensors[3]",
        |i| i.tensors.push(i.tensors[0].clone()),
        Problem::DuplicateName
    );
    refused!(
        "tensors[1]",
        |i| i.tensors[1].name = "a\tb".to_owned(),
        Problem::Text { .. }
    );
    refused!("id", |i| i.id = "\r".to_owned(), Problem::Text { .. });
    refused!(
        "producer",
        |i| i.producer = "x".repeat(5000),
        Problem::Text { .. }
    );
    refused!(
        "source[0]",
        |i| i.source[0].blake3.make_ascii_uppercase(),
        Problem::Text { .. }
    );
    refused!(
        "source[0]",
        |i| i.source[0].blake3.truncate(63),
        Problem::Text { .. }
    );
}

#[test]
fn stored_files_must_fit_what_is_stored() {
    refused!(
        "files[0]",
        |i| i.files[0].part = 1000,
        Problem::Reference { what: "part", .. }
    );
    refused!(
        "files[0]",
        |i| i.files[0].raw_bytes = u64::MAX,
        Problem::Range { .. }
    );
    refused!(
        "files[0]",
        |i| i.files[0].raw_bytes = 1 << 20,
        Problem::Range { .. }
    );
    // A plausible length that is wrong is found on reading.
    let (mut index, data) = sample();
    index.files[0].raw_bytes += 1;
    let container = sample::open(encode_index(&index, &data)).unwrap();
    let error = container.file("config.json").unwrap_err();
    assert!(matches!(error, FormatError::Decompress { .. }), "{error}");
}

#[test]
fn tables_must_be_whole_and_within_their_levels() {
    refused!(
        "tables[0]",
        |i| i.tables[0].depth = 0,
        Problem::Range { .. }
    );
    refused!(
        "tables[0]",
        |i| i.tables[0].depth = 9,
        Problem::Range { .. }
    );
    refused!(
        "tables[0]",
        |i| i.tables[0].window = 7,
        Problem::Range { .. }
    );
    refused!(
        "tables[0]",
        |i| i.tables[0].window = 2,
        Problem::Mismatch { .. }
    );
    refused!(
        "tables[1]",
        |i| i.tables[1].levels = Levels::Free(vec![0; 3]),
        Problem::Mismatch { .. }
    );
    refused!(
        "tables[1]",
        |i| i.tables[1].window = 8,
        Problem::Mismatch { .. }
    );
    let split = |a, b, a_sign_bit, b_sign_bit| Levels::Split {
        a: [a; 16],
        b: [b; 16],
        a_sign_bit,
        b_sign_bit,
    };
    for levels in [
        split(0, 0, 3, 0),
        split(0, 0, 8, 0),
        split(0, 0, 4, 4),
        split(32, 32, 4, 0),
        split(-128, 0, 4, 0),
    ] {
        refused!(
            "tables[0]",
            |i| i.tables[0].levels = levels,
            Problem::Range { .. }
        );
    }
}

#[test]
fn transforms_must_fit_their_parts_and_linears() {
    refused!(
        "transforms[0]",
        |i| i.transforms[0].width = 0,
        Problem::Range { .. }
    );
    refused!(
        "transforms[0]",
        |i| i.transforms[0].width = u64::MAX,
        Problem::Range { .. }
    );
    refused!(
        "transforms[0]",
        |i| i.transforms[0].width = 299,
        Problem::Mismatch { .. }
    );
    refused!(
        "transforms[0]",
        |i| i.transforms[0].signs = 1,
        Problem::Mismatch { .. }
    );
    refused!(
        "transforms[0]",
        |i| i.transforms[0].permutation = 99,
        Problem::Reference { .. }
    );
    refused!(
        "tensors[0]",
        |i| i.transforms.clear(),
        Problem::Reference {
            what: "transform",
            ..
        }
    );
    refused!(
        "tensors[0]",
        |i| i.tensors[0].shape = vec![20, 296],
        Problem::Mismatch { .. }
    );
}

#[test]
fn tensors_must_fit_their_parts() {
    refused!(
        "tensors[1]",
        |i| i.tensors[1].shape = vec![299],
        Problem::Mismatch { .. }
    );
    refused!(
        "tensors[1]",
        |i| i.tensors[1].shape = vec![1 << 32, 1 << 32],
        Problem::Overflow { .. }
    );
    refused!(
        "tensors[1]",
        |i| i.tensors[1].shape = vec![u64::MAX],
        Problem::Range { .. }
    );
    refused!(
        "tensors[1]",
        |i| i.tensors[1].shape = vec![1; 9],
        Problem::Range { .. }
    );
    refused!("tensors[1]", |i| raw_parts(i).clear(), Problem::Missing);
    refused!(
        "tensors[1]",
        |i| raw_parts(i).reverse(),
        Problem::WrongTier { .. }
    );
    refused!(
        "tensors[1]",
        |i| raw_parts(i)[1] = raw_parts(i)[0],
        Problem::WrongTier { .. }
    );
    refused!(
        "tensors[1]",
        |i| raw_parts(i).push(77),
        Problem::Reference { .. }
    );
    refused!(
        "tensors[0]",
        |i| i.tensors[0].shape = vec![6000],
        Problem::Mismatch { .. }
    );
    refused!(
        "tensors[0]",
        |i| i.tensors[0].shape = vec![0, 300],
        Problem::Range { .. }
    );
    refused!(
        "tensors[0]",
        |i| i.tensors[0].shape = vec![33, 300],
        Problem::Mismatch { .. }
    );
    refused!(
        "tensors[0]",
        |i| i.tensors[0].shape = vec![u64::MAX / 300, 300],
        Problem::Range { .. }
    );
    // Padding to 16 rows hides how many are real.
    let (mut index, data) = sample();
    index.tensors[0].shape = vec![32, 300];
    sample::open_and_check(encode_index(&index, &data)).unwrap();
}

#[test]
fn stages_must_fit_their_table_tier_and_parts() {
    refused!(
        "tensors[0]",
        |i| window(i, 0).table = 2,
        Problem::Reference { what: "table", .. }
    );
    refused!(
        "tensors[0]",
        |i| window(i, 0).depths[1] = 9,
        Problem::Range { .. }
    );
    refused!(
        "tensors[0]",
        |i| window(i, 0).depths[1] = 1,
        Problem::Range { .. }
    );
    refused!(
        "tensors[0]",
        |i| window(i, 0).depths[0] = 0,
        Problem::Mismatch { .. }
    );
    refused!(
        "tensors[0]",
        |i| window(i, 0).depths.push(0),
        Problem::Mismatch { .. }
    );
    refused!(
        "tensors[0]",
        |i| window(i, 0).codes = 5,
        Problem::Mismatch { .. }
    );
    refused!(
        "tensors[0]",
        |i| window(i, 0).codes = 500,
        Problem::Reference { .. }
    );
    refused!(
        "tensors[0]",
        |i| window(i, 0).tier = 1,
        Problem::WrongTier { .. }
    );
    refused!(
        "tensors[0]",
        |i| window(i, 1).tier = 0,
        Problem::WrongTier { .. }
    );
    refused!(
        "tensors[0]",
        |i| window(i, 0).row_scales.clear(),
        Problem::Missing
    );
    refused!(
        "tensors[0]",
        |i| window(i, 0).row_scales[0] = 4,
        Problem::Mismatch { .. }
    );
    let no_stages = |i: &mut Index| {
        i.tensors[0].body = Body::Linear {
            transform: 0,
            stages: vec![],
        }
    };
    refused!("tensors[0]", no_stages, Problem::Range { .. });
    let swapped = |i: &mut Index| match &mut i.tensors[0].body {
        Body::Linear { stages, .. } => stages.reverse(),
        Body::Raw { .. } | Body::Exact => panic!("the first tensor is a linear"),
    };
    refused!("tensors[0]", swapped, Problem::WrongTier { .. });
}

#[test]
fn what_exceeds_a_limit_is_refused_by_its_name() {
    let (index, data) = sample();
    let file = encode_index(&index, &data);
    let limited = |change: &dyn Fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        let region = lagar_format::Region::from_vec(file.clone());
        match lagar_format::Container::from_region(region, &limits) {
            Err(FormatError::Limit { what, .. }) => what.to_owned(),
            Err(other) => other.to_string(),
            Ok(_) => panic!("accepted"),
        }
    };
    assert_eq!(
        limited(&|limits| limits.index_stored_bytes = 99),
        "compressed index bytes"
    );
    assert_eq!(
        limited(&|limits| limits.index_raw_bytes = 99),
        "index bytes"
    );
    assert_eq!(limited(&|limits| limits.tiers = 1), "tiers");
    assert_eq!(limited(&|limits| limits.parts = 1), "parts");
    assert_eq!(limited(&|limits| limits.tensors = 1), "tensors");
    assert_eq!(limited(&|limits| limits.tables = 1), "tables");
    assert_eq!(limited(&|limits| limits.transforms = 0), "transforms");
    assert_eq!(limited(&|limits| limits.files = 0), "stored files");
    assert!(limited(&|limits| limits.file_raw_bytes = 9).contains("raw_bytes"));
    assert!(limited(&|limits| limits.elements = 9).contains("elements"));
    assert!(limited(&|limits| limits.dimensions = 1).contains("dimensions"));
    assert!(limited(&|limits| limits.stages = 1).contains("stages"));
    assert!(limited(&|limits| limits.width = 9).contains("width"));
    assert!(limited(&|limits| limits.text_bytes = 9).contains("limit"));
}

#[test]
fn an_index_that_is_not_of_this_version_is_refused() {
    let (index, data) = sample();
    let json = serde_json::to_string(&index).unwrap();
    let refused = |json: String| match sample::open(encode(json.as_bytes(), &data)) {
        Err(error @ FormatError::Json { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    };
    assert!(refused(json.replace("\"window\":{", "\"sparce\":{")).contains("sparce"));
    assert!(
        refused(json.replace("\"id\":", "\"\\u001b[2Jnew\":1,\"id\":")).contains("unknown field")
    );
    assert!(!refused(json.replace("\"id\":", "\"\\u001b[2J\":1,\"id\":")).contains('\u{1b}'));
    assert!(refused(json.replace("\"id\":", "\"id\":\"x\",\"id\":")).contains("duplicate"));
    assert!(refused(json.replace("\"seed\":", "\"bits\":")).contains("twice"));
    assert!(refused(json.replace("\"bytes\":600", "\"bytes\":-600")).contains("invalid value"));
    assert!(refused(json.replace("\"bytes\":600", "\"bytes\":6e2")).contains("invalid type"));
    assert!(refused(json.replace("\"dtype\":\"F32\"", "\"dtype\":\"F33\"")).contains("F33"));
    refused(json[..json.len() - 1].to_owned());
    refused(format!("{json} x"));
    refused("[".repeat(1_000_000));
    refused(String::new());
}

#[test]
fn an_index_that_does_not_decompress_to_its_length_is_refused() {
    let (index, data) = sample();
    let mut file = encode_index(&index, &data);
    // The header says one byte more or far more than there is.
    for (raw, reason) in [(1, "declared"), (1 << 26, "cannot decompress")] {
        let stored: [u8; 8] = file[32..40].try_into().unwrap();
        let raw = u64::from_le_bytes(stored) + raw;
        file[32..40].copy_from_slice(&raw.to_le_bytes());
        let crc = crc32c::crc32c(&file[..60]);
        file[60..64].copy_from_slice(&crc.to_le_bytes());
        let error = sample::open(file.clone()).unwrap_err();
        assert!(matches!(error, FormatError::Decompress { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

proptest! {
    /// Whatever numbers stand in an index, opening it neither panics nor lets a part reach outside
    /// the file.
    #[test]
    fn any_numbers_are_accepted_or_refused(numbers in new_numbers()) {
        let (index, data) = sample();
        let json = with_numbers(&index, &numbers);
        if let Ok(container) = sample::open(encode(json.as_bytes(), &data)) {
            sample::read_all(&container);
        }
    }
}
