//! What a command works with: processor, messages, and the options that all commands share.

use crate::args::{ActivationKind, Global};
use crate::exit::{Blame, Fault};
use crate::terminal::{Messages, counted};
use lagar_kernels::{Cpu, Isa};

/// Lowers the instruction set; nothing else in the environment changes what is computed.
const ISA_VARIABLE: &str = "LAGAR_ISA";

/// The options of every command, put to use.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) messages: Messages,
    pub(crate) json: bool,
    pub(crate) activations: ActivationKind,
    threads: usize,
    isa: Isa,
}

impl Context {
    /// Reads the environment and the machine.
    ///
    /// # Errors
    /// Wrong usage where `LAGAR_ISA` names nothing that this machine has.
    pub(crate) fn new(global: &Global) -> anyhow::Result<Self> {
        let isa = match std::env::var_os(ISA_VARIABLE) {
            None => Isa::best(),
            Some(name) if name.is_empty() => Isa::best(),
            Some(name) => isa(&name.to_string_lossy())?,
        };
        let threads = match global.threads {
            Some(threads) => threads.into(),
            None => lagar_format::os::cores(),
        };
        Ok(Self {
            messages: Messages::new(global.quiet, global.verbose),
            json: global.json,
            activations: global.activations,
            threads,
            isa,
        })
    }

    /// Instruction set and number of threads.
    pub(crate) fn executor(&self) -> (Isa, usize) {
        (self.isa, self.threads)
    }

    /// Starts the threads that compute.
    pub(crate) fn cpu(&self) -> Cpu {
        self.cpu_with(self.threads)
    }

    /// Starts so many of them.
    pub(crate) fn cpu_with(&self, threads: usize) -> Cpu {
        let cpu = Cpu::new(self.isa, threads);
        let processors = lagar_format::os::processors();
        if cpu.threads() > processors {
            self.messages.say(&format!(
                "{} for {}: they will wait for each other",
                counted(cpu.threads(), "thread"),
                counted(processors, "processor")
            ));
        }
        self.messages.detail(&format!(
            "computing with {} on {} threads",
            self.isa.name(),
            cpu.threads()
        ));
        cpu
    }
}

fn isa(name: &str) -> anyhow::Result<Isa> {
    let available: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
    Isa::parse(name)
        .map_err(|_| {
            anyhow::anyhow!(
                "{ISA_VARIABLE}={name}: this machine has {}",
                available.join(", ")
            )
        })
        .blame(Fault::Usage)
}

#[cfg(test)]
mod tests {
    use super::isa;

    #[test]
    fn a_wrong_instruction_set_is_answered_with_those_there_are() {
        assert!(isa("portable").is_ok());
        let message = isa("mmx").unwrap_err().to_string();
        assert!(
            message.starts_with("LAGAR_ISA=mmx: this machine has portable"),
            "{message}"
        );
    }
}
