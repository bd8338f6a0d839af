//! Text from a prompt, piece by piece.

mod defaults;
mod generation;
mod stop_strings;

pub use defaults::GenerationConfig;
pub use generation::{GenerateOptions, Generation, Generator, Outcome, Sequence, StopReason};
pub use stop_strings::StopStrings;
