//! Jinja as chat templates expect it.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::python_json;
use crate::EngineError;

/// The name of the one template in an environment.
pub(super) const NAME: &str = "chat_template";

/// Instructions that one rendering may take, so that no template runs for ever: about a hundred
/// times what a conversation of a thousand messages takes.
const FUEL: u64 = 10_000_000;

/// An environment that holds `source` under [`NAME`].
pub(super) fn environment(source: &str) -> Result<Environment<'static>, EngineError> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build().map_err(|error| refuse(&error))?);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(|output, state, value| match python_constant(value) {
        Some(text) => output.write_str(text).map_err(Error::from),
        None => minijinja::escape_formatter(output, state, value),
    });
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", to_json);
    environment
        .add_template_owned(NAME, without_generation_tags(source))
        .map_err(|error| refuse(&error))?;
    Ok(environment)
}

/// A template's error in one line.
pub(super) fn refuse(error: &Error) -> EngineError {
    let what = match (error.kind(), error.detail()) {
        // The template speaks itself.
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_string(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let problem = match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    };
    EngineError::ChatTemplate { problem }
}

/// How Python prints what Jinja writes differently.
fn python_constant(value: &Value) -> Option<&'static str> {
    if value.is_none() {
        return Some("None");
    }
    match bool::try_from(value.clone()) {
        Ok(true) if value.kind() == minijinja::value::ValueKind::Bool => Some("True"),
        Ok(false) if value.kind() == minijinja::value::ValueKind::Bool => Some("False"),
        _ => None,
    }
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`, which is what `transformers` puts in
/// the place of Jinja's own filter.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    if ensure_ascii == Some(true) || sort_keys == Some(true) {
        let detail = "tojson knows neither ensure_ascii=true nor sort_keys=true";
        return Err(Error::new(ErrorKind::InvalidOperation, detail));
    }
    python_json::dumps(value, indent)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// Makes blocks that are always rendered of `{% generation %}` ... `{% endgeneration %}`, the
/// marks for training on answers only.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let inner = &rest[start + 2..start + length];
        let name = inner
            .trim_start_matches(['-', '+'])
            .trim_end_matches(['-', '+'])
            .trim();
        out.push_str(&rest[..start + 2]);
        match name {
            "generation" => out.push_str(&inner.replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&inner.replacen("endgeneration", "endif", 1)),
            _ => out.push_str(inner),
        }
        out.push_str("%}");
        rest = &rest[start + length + 2..];
    }
    out + rest
}
