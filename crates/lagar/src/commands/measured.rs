//! What is measured of a model, as JSON has it: one definition for `eval`, `compare` and `demo`.

use lagar_engine::Model;
use lagar_press::{Comparison, Evaluation, PositionRange, TaskResult};
use serde::Serialize;

/// How large a model is.
#[derive(Debug, Serialize)]
pub(super) struct Size {
    /// Of the file up to the end of the tier.
    pub(super) file_bytes: u64,
    parameters: u64,
    pub(super) bits_per_parameter: f64,
}

/// What a model loses on a text.
#[derive(Debug, Serialize)]
pub(super) struct Losses {
    pub(super) tokens: usize,
    pub(super) nll_per_token: f64,
    pub(super) perplexity: f64,
    pub(super) token_accuracy: f64,
    #[serde(flatten)]
    pub(super) compared: Option<Compared>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) by_position: Option<Vec<ByPosition>>,
}

/// What a reference adds.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    pub(super) kl_mean: f64,
    pub(super) kl_p999: f64,
    pub(super) top1_agreement: f64,
    pub(super) reference_perplexity: f64,
    pub(super) reference_token_accuracy: f64,
}

/// Losses in a range of positions.
#[derive(Debug, Serialize)]
pub(super) struct ByPosition {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) tokens: usize,
    pub(super) nll_per_token: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kl_mean: Option<f64>,
}

/// How well a model answers the questions of a task.
#[derive(Debug, Serialize)]
pub(super) struct TaskScore {
    /// As it was asked for.
    pub(super) task: String,
    pub(super) examples: usize,
    pub(super) accuracy: f64,
    /// Null for a single question.
    pub(super) accuracy_stderr: Option<f64>,
    #[serde(flatten)]
    pub(super) norm: Option<Norm>,
    /// Of whole answers, where there is one answer to a question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) task_perplexity: Option<f64>,
}

/// Accuracy by the likelihood for each character.
#[derive(Debug, Serialize)]
pub(super) struct Norm {
    pub(super) accuracy_norm: f64,
    pub(super) accuracy_norm_stderr: Option<f64>,
}

impl Size {
    pub(super) fn of(model: &Model) -> Self {
        let (file_bytes, parameters) = (model.file_bytes(), model.parameters());
        Self {
            file_bytes,
            parameters,
            bits_per_parameter: 8.0 * file_bytes as f64 / parameters as f64,
        }
    }
}

impl Losses {
    pub(super) fn new(evaluation: &Evaluation, by_position: bool) -> Self {
        let ranges = || {
            let ranges = evaluation.by_position.iter();
            ranges.map(ByPosition::from).collect()
        };
        Self {
            tokens: evaluation.tokens,
            nll_per_token: evaluation.nll_per_token,
            perplexity: evaluation.perplexity(),
            token_accuracy: evaluation.token_accuracy,
            compared: evaluation.reference.as_ref().map(Compared::from),
            by_position: by_position.then(ranges),
        }
    }
}

impl From<&Comparison> for Compared {
    fn from(c: &Comparison) -> Self {
        Self {
            kl_mean: c.kl_mean,
            kl_p999: c.kl_p999,
            top1_agreement: c.top1_agreement,
            reference_perplexity: c.nll_per_token.exp(),
            reference_token_accuracy: c.token_accuracy,
        }
    }
}

impl From<&PositionRange> for ByPosition {
    fn from(range: &PositionRange) -> Self {
        Self {
            from: range.from,
            to: range.to,
            tokens: range.tokens,
            nll_per_token: range.nll_per_token,
            kl_mean: range.kl_mean,
        }
    }
}

impl TaskScore {
    pub(super) fn new(task: &str, result: &TaskResult) -> Self {
        Self {
            task: task.to_owned(),
            examples: result.answers.len(),
            accuracy: result.accuracy,
            accuracy_stderr: result.accuracy_stderr,
            norm: result.accuracy_norm.map(|accuracy_norm| Norm {
                accuracy_norm,
                accuracy_norm_stderr: result.accuracy_norm_stderr,
            }),
            task_perplexity: result.perplexity,
        }
    }

    /// `25.3 ± 0.9 %`.
    pub(super) fn words(&self) -> String {
        share(self.accuracy, self.accuracy_stderr)
    }
}

/// A share with its standard error, in percent.
pub(super) fn share(share: f64, error: Option<f64>) -> String {
    match error {
        None => format!("{:.1} %", 100.0 * share),
        Some(error) => format!("{:.1} ± {:.1} %", 100.0 * share, 100.0 * error),
    }
}
