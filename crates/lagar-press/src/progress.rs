//! How long work tells its caller where it stands, and learns that it should stop.

/// Receives the progress of long work. All methods may be called from any thread.
pub trait Progress: Sync {
    /// A new phase begins: `total` steps of comparable cost lie ahead.
    fn phase(&self, name: &str, total: u64);
    /// So many more steps of the phase are done.
    fn advance(&self, steps: u64);
    /// Something that the user should know although the work goes on.
    fn note(&self, message: &str);
    /// True once the work should stop as soon as it can.
    fn cancelled(&self) -> bool;
}

/// No reports, never cancelled.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn note(&self, _: &str) {}
    fn cancelled(&self) -> bool {
        false
    }
}
