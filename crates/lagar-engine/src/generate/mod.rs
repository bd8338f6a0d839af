//! Text from a prompt, piece by piece.

mod defaults;
mod generation;
mod model_sequence;
mod stop_strings;

pub use defaults::GenerationConfig;
pub use generation::{GenerateOptions, Generation, Generator, Outcome, Sequence, StopReason};
pub use model_sequence::ModelSequence;
pub use stop_strings::StopStrings;
