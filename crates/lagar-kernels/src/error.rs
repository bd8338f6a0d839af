use crate::Isa;

/// What can go wrong before a kernel runs. Kernels themselves do not fail: slices of the wrong
/// length are errors of the program, and panic.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A name that stands for no instruction set.
    #[error("unknown instruction set \"{name}\"; known are {}", Isa::names())]
    UnknownIsa {
        /// The name that was given.
        name: String,
    },
    /// An instruction set that this processor lacks.
    #[error("this processor cannot run \"{}\"; the best it can run is \"{}\"", isa.name(), Isa::best().name())]
    UnavailableIsa {
        /// The instruction set that was asked for.
        isa: Isa,
    },
}
