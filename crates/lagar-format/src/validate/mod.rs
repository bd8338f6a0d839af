//! Everything that must hold in an index before anything else looks at it.

mod exact;
mod layout;
mod stage;
mod tensor;
mod text;
mod version;

use std::collections::HashSet;

use crate::{FormatError, Index, Limits, Part, PartId, Problem};

pub(crate) use text::unique_keys;
pub(crate) use version::least_version;

type Check = Result<(), Problem>;

/// Checks a whole index of a file of this version, whose sections start at `data_offset`.
pub(crate) fn validate(
    index: &Index,
    version: u32,
    data_offset: u64,
    limits: &Limits,
) -> Result<(), FormatError> {
    let checker = Checker { index, limits };
    counts(index, limits)?;
    version::check(index, version)?;
    describe(index, limits)?;
    checker.layout(data_offset)?;
    each(
        "files",
        &index.files,
        |file| file.name.as_str(),
        |file| {
            checker.file_name(&file.name)?;
            let stored = checker.part(file.part)?.bytes;
            match file.raw_bytes <= limits.file_raw_bytes
                && crate::zlib::plausible(stored, file.raw_bytes)
            {
                true => Ok(()),
                false => Err(Problem::Range {
                    what: "raw_bytes",
                    value: file.raw_bytes,
                    allowed: "within the reader's limit and what the stored bytes can hold",
                }),
            }
        },
    )?;
    unique("files", index.files.iter().map(|file| file.name.as_str()))?;
    each("tables", &index.tables, |_| "", tensor::table)?;
    each(
        "transforms",
        &index.transforms,
        |_| "",
        |record| checker.transform(record),
    )?;
    each(
        "tensors",
        &index.tensors,
        |tensor| tensor.name.as_str(),
        |tensor| checker.tensor(tensor),
    )?;
    unique(
        "tensors",
        index.tensors.iter().map(|tensor| tensor.name.as_str()),
    )?;
    checker.exact()
}

/// Checks what the index says about the file as a whole and about its source.
pub(crate) fn describe(index: &Index, limits: &Limits) -> Result<(), FormatError> {
    let checker = Checker { index, limits };
    at("id", || checker.text(&index.id))?;
    at("producer", || checker.text(&index.producer))?;
    at("architecture", || checker.text(&index.architecture))?;
    for (key, value) in &index.settings {
        let place = || format!("settings {key:?}");
        checker
            .text(key)
            .map_err(|problem| invalid(place(), problem))?;
        let value = if value.is_empty() {
            Ok(())
        } else {
            checker.text(value)
        };
        value.map_err(|problem| invalid(place(), problem))?;
    }
    each(
        "source",
        &index.source,
        |file| file.name.as_str(),
        |file| {
            checker.relative_name(&file.name)?;
            text::hash(&file.blake3)
        },
    )?;
    unique("source", index.source.iter().map(|file| file.name.as_str()))?;
    checker.source_names()
}

fn counts(index: &Index, limits: &Limits) -> Result<(), FormatError> {
    let counts = [
        ("tiers", index.tiers.len(), limits.tiers),
        ("parts", index.parts.len(), limits.parts),
        ("tensors", index.tensors.len(), limits.tensors),
        ("tables", index.tables.len(), limits.tables),
        ("transforms", index.transforms.len(), limits.transforms),
        ("stored files", index.files.len(), limits.files),
        ("source files", index.source.len(), limits.files),
    ];
    match counts.into_iter().find(|(_, count, limit)| count > limit) {
        None => Ok(()),
        Some((what, count, limit)) => Err(FormatError::Limit {
            what,
            value: count as u64,
            limit: limit as u64,
        }),
    }
}

struct Checker<'a> {
    index: &'a Index,
    limits: &'a Limits,
}

impl Checker<'_> {
    fn part(&self, id: PartId) -> Result<&Part, Problem> {
        let parts = &self.index.parts;
        parts
            .get(id)
            .ok_or_else(|| reference("part", id, parts.len()))
    }
}

fn expect(what: &'static str, value: u64, expected: u64) -> Check {
    match value == expected {
        true => Ok(()),
        false => Err(Problem::Mismatch {
            what,
            value,
            expected,
        }),
    }
}

fn reference(what: &'static str, value: usize, count: usize) -> Problem {
    Problem::Reference { what, value, count }
}

fn invalid(place: String, problem: Problem) -> FormatError {
    FormatError::Index { place, problem }
}

fn at(place: &str, check: impl FnOnce() -> Check) -> Result<(), FormatError> {
    check().map_err(|problem| invalid(place.to_owned(), problem))
}

fn each<T>(
    list: &str,
    items: &[T],
    name: impl Fn(&T) -> &str,
    check: impl Fn(&T) -> Check,
) -> Result<(), FormatError> {
    for (at, item) in items.iter().enumerate() {
        check(item).map_err(|problem| {
            let name: String = name(item).chars().take(80).collect();
            let place = match name.is_empty() {
                true => format!("{list}[{at}]"),
                false => format!("{list}[{at}] {name:?}"),
            };
            invalid(place, problem)
        })?;
    }
    Ok(())
}

fn unique<'a>(list: &str, names: impl Iterator<Item = &'a str>) -> Result<(), FormatError> {
    let mut seen = HashSet::new();
    for (at, name) in names.enumerate() {
        if !seen.insert(name) {
            return Err(invalid(
                format!("{list}[{at}] {name:?}"),
                Problem::DuplicateName,
            ));
        }
    }
    Ok(())
}
