//! Checked access to the values of a `config.json`.

use serde_json::{Map, Value};

use crate::EngineError;

/// A parsed JSON object that knows which file it came from, so that every error can say so.
///
/// A key whose value is `null` counts as absent, as it does for `transformers`.
pub(crate) struct Config<'a> {
    file: &'a str,
    /// Keys leading here, with a trailing dot; empty at the top.
    prefix: String,
    map: &'a Map<String, Value>,
}

impl<'a> Config<'a> {
    pub(crate) fn new(file: &'a str, value: &'a Value) -> Result<Self, EngineError> {
        let map = value.as_object().ok_or_else(|| EngineError::Malformed {
            file: file.into(),
            problem: "expected a JSON object at the top".into(),
        })?;
        Ok(Self {
            file,
            prefix: String::new(),
            map,
        })
    }

    pub(crate) fn file(&self) -> &'a str {
        self.file
    }

    pub(crate) fn error(&self, key: &str, problem: impl Into<String>) -> EngineError {
        EngineError::config(self.file, &format!("{}{key}", self.prefix), problem)
    }

    pub(crate) fn unsupported(&self, feature: String, supported: &str) -> EngineError {
        EngineError::Unsupported {
            file: self.file.into(),
            feature,
            supported: supported.into(),
        }
    }

    /// Whether the key is there at all, `null` included.
    pub(crate) fn mentions(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn typed<T>(
        &self,
        key: &str,
        what: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, EngineError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(self.error(key, format!("must be {what}, not {}", shown(value)))),
            },
        }
    }

    /// A whole number in `1..=limit`.
    pub(crate) fn count(&self, key: &str, limit: usize) -> Result<Option<usize>, EngineError> {
        self.typed(key, &format!("a whole number from 1 to {limit}"), |v| {
            let n = usize::try_from(v.as_u64()?).ok()?;
            (1..=limit).contains(&n).then_some(n)
        })
    }

    pub(crate) fn required_count(&self, key: &str, limit: usize) -> Result<usize, EngineError> {
        self.count(key, limit)?
            .ok_or_else(|| self.error(key, "is missing"))
    }

    /// A whole number in `0..=limit`.
    pub(crate) fn count_or_zero(
        &self,
        key: &str,
        limit: usize,
    ) -> Result<Option<usize>, EngineError> {
        self.typed(key, &format!("a whole number from 0 to {limit}"), |v| {
            let n = usize::try_from(v.as_u64()?).ok()?;
            (n <= limit).then_some(n)
        })
    }

    /// A finite number above zero.
    pub(crate) fn positive(&self, key: &str) -> Result<Option<f64>, EngineError> {
        self.typed(key, "a number above 0", |v| {
            v.as_f64().filter(|x| x.is_finite() && *x > 0.0)
        })
    }

    pub(crate) fn required_positive(&self, key: &str) -> Result<f64, EngineError> {
        self.positive(key)?
            .ok_or_else(|| self.error(key, "is missing"))
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, EngineError> {
        Ok(self
            .typed(key, "true or false", Value::as_bool)?
            .unwrap_or(default))
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, EngineError> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(crate) fn strings(&self, key: &str) -> Result<Option<Vec<&'a str>>, EngineError> {
        self.typed(key, "a list of strings", |v| {
            v.as_array()?.iter().map(Value::as_str).collect()
        })
    }

    pub(crate) fn object(&self, key: &str) -> Result<Option<Self>, EngineError> {
        Ok(self
            .typed(key, "an object", Value::as_object)?
            .map(|map| Self {
                file: self.file,
                prefix: format!("{}{key}.", self.prefix),
                map,
            }))
    }
}

/// A JSON value, cut to a length that fits an error message.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 40;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        text
    } else {
        text.chars().take(LONGEST).chain(['…']).collect()
    }
}
