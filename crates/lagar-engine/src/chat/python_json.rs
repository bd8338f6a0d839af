//! JSON with the spacing of Python's `json.dumps`.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
pub(super) fn dumps(value: &impl Serialize, indent: Option<usize>) -> serde_json::Result<String> {
    let mut out = Vec::new();
    match indent {
        None => value.serialize(&mut serde_json::Serializer::with_formatter(
            &mut out, OneLine,
        ))?,
        Some(width) => {
            let spaces = " ".repeat(width.min(64));
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(
                &mut out, formatter,
            ))?;
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// On one line, with a space after each comma and colon.
struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spacing_is_pythons() {
        let value = json!({"name": "f<>&'é", "list": [1, 2.5, null, true], "empty": {}});
        // Keys in the order of serde_json's map, which is not what is tested.
        assert_eq!(dumps(&value["list"], None).unwrap(), "[1, 2.5, null, true]");
        assert_eq!(
            dumps(&json!({"a": "f<>&'é"}), None).unwrap(),
            "{\"a\": \"f<>&'é\"}"
        );
        assert_eq!(
            dumps(&json!({"a": [1]}), Some(2)).unwrap(),
            "{\n  \"a\": [\n    1\n  ]\n}"
        );
        assert_eq!(dumps(&json!({"a": {}}), None).unwrap(), "{\"a\": {}}");
    }
}
