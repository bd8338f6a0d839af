//! One line of a task's file: a JSON object, in one of the forms that such files have.

use serde_json::{Map, Value};

/// What is asked on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    /// Contexts and continuations: one, or as many as there are choices.
    pub(super) pairs: Vec<(String, String)>,
    /// Position of the right choice.
    pub(super) right: usize,
    /// Characters of each choice, where the choices follow the same context.
    pub(super) lengths: Vec<usize>,
}

/// What counts as a right answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Each token of the continuation is the most likely one.
    Completion,
    /// The right choice is the likeliest.
    Choice,
}

impl Kind {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Completion => "a text to complete",
            Self::Choice => "a choice",
        }
    }
}

/// The forms, as messages name them.
const FORMS: &str = "\"prompt\" and \"answer\"; \"prompt\" (or \"query\"), \"choices\" and \"answer\" (or \"gold\"); \
    \"context\" and \"continuation\"; \"context_options\", \"continuation\" and \"gold\"; or the fields of the \
    datasets lambada_openai, ai2_arc, piqa and winogrande";

/// Reads a line; the error says what is wrong with it.
pub(super) fn parse(line: &str) -> Result<Record, String> {
    let fields = match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => Fields(fields),
        Ok(_) => return Err("not a JSON object".to_owned()),
        Err(error) => return Err(not_json(&error)),
    };
    if fields.has("context_options") {
        return context_options(&fields);
    }
    if fields.has("sentence") {
        return winogrande(&fields);
    }
    if fields.has("goal") {
        return piqa(&fields);
    }
    if fields.has("choices") {
        return choices(&fields);
    }
    if fields.has("continuation") {
        let continuation = format!(" {}", fields.text("continuation")?);
        return completion(fields.string("context")?, continuation);
    }
    if let Some(prompt) = fields.prompt()? {
        let continuation = after(prompt, fields.text("answer")?);
        return completion(prompt, continuation);
    }
    if fields.has("text") {
        return last_word(fields.text("text")?);
    }
    let keys: Vec<_> = fields.0.keys().map(|key| format!("{key:?}")).collect();
    Err(format!(
        "the object has {}; a line needs {FORMS}",
        match keys.len() {
            0 => "no fields".to_owned(),
            _ => keys.join(", "),
        }
    ))
}

/// The library counts lines within the text that it is given: within a line, only the column says something.
fn not_json(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let what = message.split(" at line ").next().unwrap_or_default();
    format!("not valid JSON: {what} (column {})", error.column())
}

fn completion(context: &str, continuation: String) -> Result<Record, String> {
    Ok(Record {
        kind: Kind::Completion,
        pairs: vec![(context.to_owned(), continuation)],
        right: 0,
        lengths: Vec::new(),
    })
}

/// Choices that follow one context.
fn choice(
    context: &str,
    choices: &[&str],
    right: usize,
    continuation: impl Fn(&str) -> String,
) -> Result<Record, String> {
    let pairs = choices
        .iter()
        .map(|choice| (context.to_owned(), continuation(choice)));
    Ok(Record {
        kind: Kind::Choice,
        pairs: pairs.collect(),
        right,
        lengths: choices.iter().map(|c| c.chars().count()).collect(),
    })
}

/// One continuation after contexts that differ.
fn contexts(contexts: Vec<String>, continuation: &str, right: usize) -> Result<Record, String> {
    let continuation = format!(" {continuation}");
    let pairs = contexts
        .into_iter()
        .map(|context| (context, continuation.clone()));
    Ok(Record {
        kind: Kind::Choice,
        pairs: pairs.collect(),
        right,
        lengths: Vec::new(),
    })
}

/// WinoGrande as llm-foundry has it.
fn context_options(fields: &Fields) -> Result<Record, String> {
    let options = fields.strings("context_options")?;
    let right = fields.index("gold", options.len())?;
    let options = options.into_iter().map(str::to_owned).collect();
    contexts(options, fields.text("continuation")?, right)
}

/// WinoGrande's own fields: what replaces the gap is in the context, what follows it is scored.
fn winogrande(fields: &Fields) -> Result<Record, String> {
    let sentence = fields.text("sentence")?;
    let (before, after) = sentence
        .split_once('_')
        .ok_or("\"sentence\" has no gap, \"_\"")?;
    let options = [fields.text("option1")?, fields.text("option2")?];
    let right = match fields.value("answer")? {
        Value::String(answer) if answer == "1" => 0,
        Value::String(answer) if answer == "2" => 1,
        other => return Err(format!("\"answer\" is {other}; it must be \"1\" or \"2\"")),
    };
    let after = after.trim();
    if after.is_empty() {
        return Err("nothing follows the gap of \"sentence\"".to_owned());
    }
    let options = options.map(|option| format!("{before}{option}"));
    contexts(options.into(), after, right)
}

/// PIQA's own fields.
fn piqa(fields: &Fields) -> Result<Record, String> {
    let choices = [fields.text("sol1")?, fields.text("sol2")?];
    let context = format!("Question: {}\nAnswer:", fields.string("goal")?);
    let right = fields.index("label", choices.len())?;
    choice(&context, &choices, right, |choice| format!(" {choice}"))
}

fn choices(fields: &Fields) -> Result<Record, String> {
    if let Value::Object(labelled) = fields.value("choices")? {
        return arc(fields, &Fields(labelled.clone()));
    }
    let choices = fields.strings("choices")?;
    let key = if fields.has("gold") { "gold" } else { "answer" };
    let right = fields.index(key, choices.len())?;
    let prompt = fields
        .prompt()?
        .ok_or("\"prompt\" (or \"query\") is missing")?;
    // llm-foundry's files leave out what every question of ARC and PIQA ends with.
    if prompt.starts_with("Question: ") && fields.has("query") && !prompt.ends_with("Answer:") {
        let question = prompt.strip_suffix('\n').unwrap_or(prompt);
        let context = format!("{question}\nAnswer:");
        return choice(&context, &choices, right, |choice| format!(" {choice}"));
    }
    choice(prompt, &choices, right, |choice| after(prompt, choice))
}

/// ARC's own fields.
fn arc(fields: &Fields, labelled: &Fields) -> Result<Record, String> {
    let choices = labelled.strings("text")?;
    let labels = labelled.strings("label")?;
    let key = fields.text("answerKey")?;
    let right = labels.iter().position(|label| *label == key);
    let right = right
        .filter(|right| *right < choices.len())
        .ok_or_else(|| format!("\"answerKey\" is {key:?}; the labels are {labels:?}"))?;
    let context = format!("Question: {}\nAnswer:", fields.text("question")?);
    choice(&context, &choices, right, |choice| format!(" {choice}"))
}

/// LAMBADA's own field: the last word is what is to be found.
fn last_word(text: &str) -> Result<Record, String> {
    match text.rsplit_once(' ') {
        Some((context, word)) if !word.is_empty() => completion(context, format!(" {word}")),
        _ => Err("\"text\" has no last word after a space".to_owned()),
    }
}

/// `continuation`, after a space unless there is space already.
fn after(prompt: &str, continuation: &str) -> String {
    let apart = prompt.is_empty()
        || prompt.ends_with(char::is_whitespace)
        || continuation.starts_with(char::is_whitespace);
    let space = if apart { "" } else { " " };
    format!("{space}{continuation}")
}

/// The fields of an object, read with messages that name them.
struct Fields(Map<String, Value>);

impl Fields {
    fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    fn value(&self, key: &str) -> Result<&Value, String> {
        let value = self.0.get(key);
        value.ok_or_else(|| format!("{key:?} is missing"))
    }

    fn string(&self, key: &str) -> Result<&str, String> {
        let value = self.value(key)?.as_str();
        value.ok_or_else(|| format!("{key:?} must be text"))
    }

    /// Text that is not empty.
    fn text(&self, key: &str) -> Result<&str, String> {
        match self.string(key)? {
            "" => Err(format!("{key:?} is empty")),
            text => Ok(text),
        }
    }

    /// Two or more texts, none of them empty.
    fn strings(&self, key: &str) -> Result<Vec<&str>, String> {
        let refuse = || format!("{key:?} must be a list of two or more texts, none of them empty");
        let list = self.value(key)?.as_array().filter(|list| list.len() >= 2);
        let texts = list.ok_or_else(refuse)?.iter().map(|value| {
            let text = value.as_str().filter(|text| !text.is_empty());
            text.ok_or_else(refuse)
        });
        texts.collect()
    }

    /// A position among `n` choices.
    fn index(&self, key: &str, n: usize) -> Result<usize, String> {
        let value = self.value(key)?;
        let index = value.as_u64().and_then(|index| usize::try_from(index).ok());
        index.filter(|index| *index < n).ok_or_else(|| {
            format!(
                "{key:?} is {value}; it must be the right one's position, 0 to {}",
                n - 1
            )
        })
    }

    /// What is asked, under whichever name.
    fn prompt(&self) -> Result<Option<&str>, String> {
        let known = ["prompt", "query", "question", "context"];
        let key = known.into_iter().find(|key| self.has(key));
        key.map(|key| self.string(key)).transpose()
    }
}
