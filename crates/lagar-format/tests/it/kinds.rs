//! Sparse and low-rank stages: what contradicts itself is refused, each for its own reason.

use lagar_format::{
    Body, Dtype, FormatError, Index, LowRankStage, Problem, SparseStage, Stage, TensorRecord,
    TransformRecord, WindowStage, Writer,
};
use proptest::prelude::*;

use crate::index_file::{encode, encode_index, encode_version, new_numbers, with_numbers};
use crate::sample;

fn sample() -> (Index, Vec<u8>) {
    let file = sample::write(sample::kinds_writer());
    let container = sample::open(file.clone()).unwrap();
    let sections = container.index().tiers.last().unwrap().end as usize;
    (
        container.index().clone(),
        file[file.len() - sections..].to_vec(),
    )
}

fn stages(index: &mut Index) -> &mut Vec<Stage> {
    match &mut index.tensors[0].body {
        Body::Linear { stages, .. } => stages,
        Body::Raw { .. } | Body::Exact => panic!("the first tensor is a linear"),
    }
}

fn sparse(index: &mut Index) -> &mut SparseStage {
    match &mut stages(index)[2] {
        Stage::Sparse(stage) => stage,
        other => panic!("{other:?}"),
    }
}

fn low_rank(index: &mut Index) -> &mut LowRankStage {
    match &mut stages(index)[3] {
        Stage::LowRank(stage) => stage,
        other => panic!("{other:?}"),
    }
}

/// Changes the sample's index and expects a problem of its linear that matches.
#[track_caller]
fn refused(change: impl FnOnce(&mut Index), matches: impl FnOnce(&Problem) -> bool) {
    let (mut index, data) = sample();
    change(&mut index);
    match sample::open(encode_index(&index, &data)) {
        Err(FormatError::Index { place, problem }) => assert!(
            place.starts_with("tensors[0]") && matches(&problem),
            "{place}: {problem}"
        ),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
}

macro_rules! refused {
    ($change:expr, $problem:pat) => {
        refused($change, |problem| matches!(problem, $problem))
    };
}

#[test]
fn sparse_stages_must_have_parts_that_fit_each_other() {
    let bytes = "bytes of the counts";
    for gap_bytes in [0, 3] {
        refused!(
            |i| sparse(i).gap_bytes = gap_bytes,
            Problem::Range {
                what: "gap_bytes",
                ..
            }
        );
    }
    refused!(
        |i| sparse(i).gap_bytes = 2,
        Problem::Mismatch {
            what: "bytes of the gaps",
            value: 4,
            expected: 8
        }
    );
    refused!(
        |i| sparse(i).gaps = sparse(i).values,
        Problem::Mismatch {
            what: "bytes of the gaps",
            ..
        }
    );
    refused(
        |i| sparse(i).counts = sparse(i).gaps,
        |p| matches!(p, Problem::Mismatch { what, expected: 64, .. } if *what == bytes),
    );
    refused!(|i| sparse(i).counts = 0, Problem::WrongTier { .. });
    refused!(
        |i| sparse(i).values = 999,
        Problem::Reference { what: "part", .. }
    );
    refused!(|i| sparse(i).tier = 0, Problem::WrongTier { .. });
    refused!(|i| sparse(i).tier = 9, Problem::WrongTier { .. });
    // More entries than the matrix has places.
    let mut writer = Writer::new(sample().0);
    writer.begin_tier("R");
    let window = WindowStage {
        tier: 0,
        table: 0,
        depths: vec![0],
        codes: writer.part(vec![0; 64]),
        scales: writer.part(Vec::new()),
        row_scales: vec![writer.part(vec![0; 32])],
    };
    writer.table(sample().0.tables.remove(0));
    let sparse = SparseStage {
        tier: 0,
        gap_bytes: 1,
        counts: writer.part(vec![0; 32]),
        gaps: writer.part(vec![0; 7]),
        values: writer.part(vec![0; 14]),
    };
    let transform = TransformRecord {
        width: 3,
        permutation: writer.part([0, 0, 1, 0, 2, 0].to_vec()),
        signs: writer.part(vec![0]),
    };
    writer.transform(transform);
    writer.tensor(TensorRecord {
        name: "small".to_owned(),
        shape: vec![2, 3],
        dtype: Dtype::BF16,
        body: Body::Linear {
            transform: 0,
            stages: vec![Stage::Window(window), Stage::Sparse(sparse)],
        },
        exact: None,
    });
    let folder = tempfile::tempdir().unwrap();
    let error = writer.write(&folder.path().join("file")).unwrap_err();
    assert!(
        error.to_string().contains("number of entries is 7"),
        "{error}"
    );
}

#[test]
fn factors_must_fit_each_other_and_their_linear() {
    for rank in [0, 8, 17, 48, u64::MAX, 1 << 60] {
        refused!(
            |i| low_rank(i).rank = rank,
            Problem::Range { what: "rank", .. }
        );
    }
    refused!(|i| low_rank(i).rank = 32, Problem::Mismatch { .. });
    refused!(
        |i| low_rank(i).u.tier = 0,
        Problem::Mismatch {
            what: "the tier of the factor u",
            ..
        }
    );
    refused!(
        |i| low_rank(i).v.depths[1] = 0,
        Problem::Range {
            what: "a depth of a factor",
            ..
        }
    );
    refused!(
        |i| low_rank(i).u.depths.clear(),
        Problem::Mismatch {
            what: "number of depths",
            ..
        }
    );
    refused!(
        |i| {
            let stage = low_rank(i);
            std::mem::swap(&mut stage.u.codes, &mut stage.v.codes);
        },
        Problem::Mismatch {
            what: "bytes of the codes",
            ..
        }
    );
    refused!(|i| low_rank(i).v.row_scales.clear(), Problem::Missing);
    refused!(
        |i| low_rank(i).v.table = 9,
        Problem::Reference { what: "table", .. }
    );
}

#[test]
fn a_linear_begins_with_a_window_stage() {
    refused!(|i| stages(i).rotate_left(2), Problem::FirstStage);
    refused!(
        |i| {
            stages(i).drain(..3);
        },
        Problem::FirstStage
    );
}

#[test]
fn older_versions_have_no_such_stages() {
    let (mut index, data) = sample();
    let open = |index: &Index, version| {
        let json = serde_json::to_vec(index).unwrap();
        sample::open(encode_version(version, &json, &data))
    };
    for kept in [2, 3] {
        let mut index = index.clone();
        let stage = stages(&mut index).remove(kept);
        stages(&mut index).truncate(2);
        stages(&mut index).push(stage);
        open(&index, 3).unwrap();
        for version in [1, 2] {
            match open(&index, version) {
                Err(FormatError::Index {
                    place,
                    problem: Problem::NewerVersion { needed: 3 },
                }) => assert!(place.starts_with("tensors[0]"), "{place}"),
                other => panic!("{:?}", other.map(|_| ())),
            }
        }
    }
    stages(&mut index).truncate(2);
    open(&index, 1).unwrap();
}

#[test]
fn parts_are_named_in_messages() {
    let (index, _) = sample();
    let named: Vec<String> = (0..index.parts.len())
        .map(|part| index.describe_part(part))
        .filter(|name| name.ends_with("stage 2") || name.ends_with("stage 3"))
        .map(|name| name[..name.find(" of tensor").unwrap()].to_owned())
        .collect();
    assert_eq!(
        named,
        [
            "counts",
            "gaps",
            "values",
            "codes of v",
            "scales of v",
            "row scales of v",
            "codes of u",
            "scales of u",
            "row scales of u",
        ]
    );
}

proptest! {
    /// Whatever numbers stand in an index, what is accepted can be read without a panic.
    #[test]
    fn any_numbers_are_accepted_or_refused(numbers in new_numbers()) {
        let (index, data) = sample();
        let json = with_numbers(&index, &numbers);
        if let Ok(container) = sample::open(encode(json.as_bytes(), &data)) {
            sample::read_all(&container);
        }
    }
}
