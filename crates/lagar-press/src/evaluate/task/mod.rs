//! Questions with right answers, scored by log-likelihood.
//!
//! The method is that of EleutherAI's `lm-eval` (version 0.4): no token is generated; each continuation is scored as
//! `log q(continuation | context)`. A text to complete is right where greedy decoding would give it; of
//! several choices, the likeliest is the answer, as it is or for each character of the choice (`norm`).

mod encode;
mod lines;
mod record;
mod scorer;
mod statistics;

use std::path::{Path, PathBuf};

use lagar_engine::Model;
use lagar_kernels::Cpu;

pub use encode::Example;

use crate::{PressError, Progress};
use record::{Kind, Record};
use scorer::{Likelihood, Scorer, Unusable};
use statistics::{mean, standard_error};

/// Questions from a file.
#[derive(Debug, Clone)]
pub struct Task {
    path: PathBuf,
    kind: Kind,
    /// Line numbers and what is asked there; at least one.
    records: Vec<(usize, Record)>,
}

/// A question as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Question {
    /// The line of the file, counted from 1.
    pub line: usize,
    /// One for a text to complete; for a choice, all choices.
    pub examples: Vec<Example>,
    /// Position of the right one.
    pub right: usize,
    /// Characters of each choice; empty where lengths do not matter.
    pub lengths: Vec<usize>,
}

/// What a model made of a question.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// The line of the file, counted from 1.
    pub line: usize,
    /// log q of each continuation, nats.
    pub log_likelihoods: Vec<f64>,
    /// Whether the answer is right.
    pub right: bool,
    /// Whether the likeliest choice for each of its characters is right.
    pub right_norm: Option<bool>,
}

/// How well a model answers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskResult {
    /// Share of right answers.
    pub accuracy: f64,
    /// Its standard error, from the deviation within the sample; none for a single question.
    pub accuracy_stderr: Option<f64>,
    /// The same with log-likelihoods for each character of a choice, where choices follow the same
    /// context.
    pub accuracy_norm: Option<f64>,
    /// The standard error of that.
    pub accuracy_norm_stderr: Option<f64>,
    /// exp of the mean of −log q over texts to complete: a perplexity for each whole continuation.
    pub perplexity: Option<f64>,
    /// Every answer, in the order of the file.
    pub answers: Vec<Answer>,
}

impl Task {
    /// Reads the first `limit` questions of a file, by default all: one JSON object on each line. Empty lines are skipped.
    ///
    /// Forms of an object, recognised by its fields:
    ///
    /// - `prompt` and `answer`: a text to complete; a space comes between the two unless there is one;
    /// - `prompt` or `query`, `choices` (texts) and `answer` or `gold` (a position from 0); a `query` that
    ///   begins with `Question: ` is followed by a line `Answer:`;
    /// - `context` and `continuation`: a text to complete after a space;
    /// - `context_options`, `continuation` and `gold`: the context under which the continuation is likeliest;
    /// - the fields of the data sets themselves: LAMBADA (`text`), ARC (`question`, `choices`, `answerKey`), PIQA
    ///   (`goal`, `sol1`, `sol2`, `label`) and WinoGrande (`sentence`, `option1`, `option2`, `answer`), made
    ///   into texts as `lm-eval` does.
    ///
    /// # Errors
    /// [`PressError::Io`], [`PressError::TaskLine`] with the first line that cannot be used, and
    /// [`PressError::EmptyTask`].
    pub fn read(path: &Path, limit: Option<usize>) -> Result<Self, PressError> {
        let mut records: Vec<(usize, Record)> = Vec::new();
        for line in lines::read(path)? {
            if limit.is_some_and(|limit| records.len() >= limit) {
                break;
            }
            let (number, line) = line?;
            let refuse = |problem| PressError::TaskLine {
                path: path.into(),
                line: number,
                problem,
            };
            let record = record::parse(&line).map_err(refuse)?;
            if let Some((first, other)) = records.first().filter(|(_, r)| r.kind != record.kind) {
                return Err(refuse(format!(
                    "{}, but line {first} has {}; a file holds one kind",
                    record.kind.words(),
                    other.kind.words()
                )));
            }
            records.push((number, record));
        }
        let Some((_, first)) = records.first() else {
            return Err(PressError::EmptyTask { path: path.into() });
        };
        Ok(Self {
            path: path.into(),
            kind: first.kind,
            records,
        })
    }

    /// Number of questions.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// False: a task has at least one question.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The questions as token ids of a model, in order, as `lm-eval` encodes them.
    ///
    /// # Errors
    /// [`PressError::TaskLine`] where a continuation adds no token.
    pub fn questions(&self, model: &Model) -> Result<Vec<Question>, PressError> {
        let records = self.records.iter();
        records
            .map(|(line, record)| self.question(model, *line, record))
            .collect()
    }

    /// The right answers alone, each after its question.
    ///
    /// # Errors
    /// Those of [`Task::questions`].
    pub(crate) fn right_answers(&self, model: &Model) -> Result<Vec<Example>, PressError> {
        let questions = self.questions(model)?.into_iter();
        Ok(questions
            .map(|mut question| question.examples.swap_remove(question.right))
            .collect())
    }

    fn question(
        &self,
        model: &Model,
        line: usize,
        record: &Record,
    ) -> Result<Question, PressError> {
        let pairs = record.pairs.iter().map(|(context, continuation)| {
            let example = encode::encode_pair(model.tokenizer(), context, continuation)?;
            example.ok_or_else(|| {
                let problem = "an answer adds no token to what comes before it";
                self.refuse(line, problem.to_owned())
            })
        });
        Ok(Question {
            line,
            examples: pairs.collect::<Result<_, _>>()?,
            right: record.right,
            lengths: record.lengths.clone(),
        })
    }

    fn refuse(&self, line: usize, problem: String) -> PressError {
        PressError::TaskLine {
            path: self.path.clone(),
            line,
            problem,
        }
    }
}

/// Lets a model answer all questions of a task.
///
/// Contexts that are longer than the model's lose their beginning; an answer that is longer itself is scored in
/// pieces of half of that, each after what fits of all that comes before. Steps of `progress` are tokens.
///
/// # Errors
/// Those of [`Task::questions`]; [`PressError::TaskLine`] also where the model's logits are no numbers;
/// [`PressError::Interrupted`].
pub fn score(
    cpu: &Cpu,
    model: &Model,
    task: &Task,
    progress: &dyn Progress,
) -> Result<TaskResult, PressError> {
    let questions = task.questions(model)?;
    let steps = |question: &Question| {
        let examples = question.examples.iter();
        let tokens = examples.map(|e| (e.context.len() + e.continuation.len()) as u64);
        tokens.sum::<u64>()
    };
    progress.phase("Answering", questions.iter().map(steps).sum());
    let mut scorer = Scorer::new(cpu, model)?;
    let mut answers = Vec::with_capacity(questions.len());
    for question in &questions {
        if progress.cancelled() {
            return Err(PressError::Interrupted);
        }
        let mut likelihoods = Vec::with_capacity(question.examples.len());
        for example in &question.examples {
            likelihoods.push(scorer.score(example)?.map_err(|Unusable(value)| {
                let problem = format!(
                    "the model gives {value} as a logit; its weights overflow or the file is damaged"
                );
                task.refuse(question.line, problem)
            })?);
        }
        answers.push(answer(task.kind, question, &likelihoods));
        progress.advance(steps(question));
    }
    Ok(summarise(task.kind, answers))
}

fn answer(kind: Kind, question: &Question, likelihoods: &[Likelihood]) -> Answer {
    let logs: Vec<f64> = likelihoods.iter().map(|l| l.log).collect();
    let right = match kind {
        Kind::Completion => likelihoods[question.right].greedy,
        Kind::Choice => likeliest(logs.iter().copied()) == question.right,
    };
    let right_norm = (!question.lengths.is_empty()).then(|| {
        let lengths = question.lengths.iter();
        let shares = logs.iter().zip(lengths).map(|(log, n)| log / *n as f64);
        likeliest(shares) == question.right
    });
    Answer {
        line: question.line,
        log_likelihoods: logs,
        right,
        right_norm,
    }
}

/// Position of the largest value; the first of equals.
fn likeliest(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, value) in values.enumerate() {
        if value > best.1 {
            best = (i, value);
        }
    }
    best.0
}

fn summarise(kind: Kind, answers: Vec<Answer>) -> TaskResult {
    let share = |right: bool| f64::from(u8::from(right));
    let right: Vec<f64> = answers.iter().map(|a| share(a.right)).collect();
    let norm: Option<Vec<f64>> = answers.iter().map(|a| a.right_norm.map(share)).collect();
    let logs = answers.iter().flat_map(|a| a.log_likelihoods.first());
    let logs: Vec<f64> = logs.copied().collect();
    TaskResult {
        accuracy: mean(&right),
        accuracy_stderr: standard_error(&right),
        accuracy_norm: norm.as_deref().map(mean),
        accuracy_norm_stderr: norm.as_deref().and_then(standard_error),
        perplexity: (kind == Kind::Completion).then(|| (-mean(&logs)).exp()),
        answers,
    }
}
