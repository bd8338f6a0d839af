//! The safetensors header, read strictly.
//!
//! A file is a little-endian u64 length, a JSON header of that length, and the data. The header
//! maps each tensor's name to its element type, shape and byte range in the data. The ranges must
//! cover the data without holes or overlaps. See <https://github.com/huggingface/safetensors>.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use lagar_format::Dtype;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::EngineError;

/// The format's own limit on the length of a header, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// A tensor as a safetensors header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Element type.
    pub dtype: Dtype,
    /// Shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// Bytes of the file.
    pub range: Range<usize>,
}

/// Reads the header of a safetensors file that is wholly in `bytes`; `file` names it in errors.
///
/// # Errors
/// Anything that the format forbids: a header that is too long, cut off, not JSON or names a
/// tensor twice; ranges with holes, overlaps or the wrong length; a file that is too short or too
/// long for its tensors.
pub fn parse(file: &str, bytes: &[u8]) -> Result<BTreeMap<String, Entry>, EngineError> {
    let whole = |problem: String| EngineError::Malformed {
        file: file.into(),
        problem,
    };
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        let problem = format!(
            "is cut off: {} bytes, but the length of a safetensors header takes 8",
            bytes.len()
        );
        return Err(whole(problem));
    };
    let length = u64::from_le_bytes(*length);
    if length > LONGEST_HEADER {
        return Err(whole(format!(
            "is not a safetensors file: its header would have {length} bytes, and the format \
             allows {LONGEST_HEADER}"
        )));
    }
    let Some((header, data)) = rest.split_at_checked(length as usize) else {
        return Err(whole(format!(
            "is cut off: its header has {length} bytes, of which {} are there",
            rest.len()
        )));
    };
    let Header(raw) = serde_json::from_slice(header)
        .map_err(|error| whole(format!("its safetensors header is malformed: {error}")))?;

    let first = bytes.len() - data.len();
    let mut tensors: Vec<(String, RawEntry)> = raw;
    tensors.sort_by(|(a, left), (b, right)| {
        (left.data_offsets, a.as_str()).cmp(&(right.data_offsets, b.as_str()))
    });
    let mut end = 0;
    let mut entries = BTreeMap::new();
    for (name, raw) in tensors {
        let fault = |problem: String| EngineError::tensor(file, &name, problem);
        let (start, stop) = raw.data_offsets;
        if start != end || stop < start {
            return Err(fault(format!(
                "bytes {start}..{stop} of the data must begin at {end}, where the tensor before \
                 them ends"
            )));
        }
        let elements = raw
            .shape
            .iter()
            .try_fold(1u64, |product, &d| product.checked_mul(d));
        let expected = elements.and_then(|elements| elements.checked_mul(raw.dtype.bytes()));
        if expected != Some(stop - start) {
            return Err(fault(format!(
                "has {} bytes, but {} of shape {:?} takes {}",
                stop - start,
                raw.dtype,
                raw.shape,
                expected.map_or("more than can be addressed".into(), |e| e.to_string()),
            )));
        }
        if stop > data.len() as u64 {
            return Err(fault(format!(
                "ends at byte {stop} of the data, but the file has {} bytes of data: it is cut off",
                data.len()
            )));
        }
        end = stop;
        entries.insert(
            name,
            Entry {
                dtype: raw.dtype,
                // Dimensions fit where their product is below the length of a slice, or is 0.
                shape: raw.shape.iter().map(|&d| d as usize).collect(),
                range: first + start as usize..first + stop as usize,
            },
        );
    }
    if end != data.len() as u64 {
        return Err(whole(format!(
            "has {} bytes of data, but its tensors take {end}",
            data.len()
        )));
    }
    Ok(entries)
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: Dtype,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The tensors of a header in file order, without its `__metadata__`.
struct Header(Vec<(String, RawEntry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = Vec::new();
                let mut seen = std::collections::BTreeSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let entry = map
                        .next_value()
                        .map_err(|error| A::Error::custom(format!("tensor {name}: {error}")))?;
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("tensor {name} is there twice")));
                    }
                    tensors.push((name, entry));
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}
