//! Text from a prompt, piece by piece.

mod cached;
mod defaults;
mod draft;
mod generation;
mod model_sequence;
mod pace;
mod stop_strings;

pub use defaults::GenerationConfig;
pub use generation::{GenerateOptions, Generation, Generator, Outcome, Sequence, StopReason};
pub use model_sequence::ModelSequence;
pub use pace::DraftLength;
pub use stop_strings::StopStrings;
