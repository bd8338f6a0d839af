//! Names and other texts: what is safe to print and to create as a file.

use std::collections::BTreeMap;

use serde::Deserializer;
use serde::de::{Error, MapAccess, Visitor};

use super::{Check, Checker};
use crate::Problem;

impl Checker<'_> {
    /// A text for people: not empty, not long, no control characters.
    pub(super) fn text(&self, text: &str) -> Check {
        let reason = match text {
            "" => "is empty",
            _ if text.len() > self.limits.text_bytes => "is longer than the reader's limit",
            _ if text.chars().any(steers) => "has control characters",
            _ => return Ok(()),
        };
        // Not the whole of an overlong text, and never raw control characters: it is printed with
        // escapes.
        let text = text.chars().take(80).collect();
        Err(Problem::Text { text, reason })
    }

    /// A name that is safe to create in a folder on any system.
    pub(super) fn file_name(&self, name: &str) -> Check {
        self.text(name)?;
        let plain = !name.contains(['/', '\\', ':']) && !name.ends_with(['.', ' ']);
        match plain && name.len() <= 255 {
            true => Ok(()),
            false => {
                let text = name.chars().take(80).collect();
                Err(Problem::Text {
                    text,
                    reason: "is not a plain file name",
                })
            }
        }
    }

    /// A name that is safe to create below a folder on any system: plain names with `/` between.
    pub(super) fn relative_name(&self, name: &str) -> Check {
        self.text(name)?;
        name.split('/').try_for_each(|part| self.file_name(part))
    }
}

/// Control characters, and those that reverse the direction of the text around them.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A BLAKE3 hash.
pub(super) fn hash(text: &str) -> Check {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() == 64 && text.bytes().all(digit) {
        return Ok(());
    }
    let text = text.chars().take(80).collect();
    Err(Problem::Text {
        text,
        reason: "is not a hash of 64 lower-case hexadecimal digits",
    })
}

/// A map that refuses a key which occurs twice.
pub(crate) fn unique_keys<'de, D>(json: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    struct Unique;
    impl<'de> Visitor<'de> for Unique {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = entries.next_entry::<String, String>()? {
                if map.insert(key, value).is_some() {
                    return Err(A::Error::custom("a setting occurs twice"));
                }
            }
            Ok(map)
        }
    }
    json.deserialize_map(Unique)
}
