//! `lagar restore`.

use crate::args::RestoreArgs;
use crate::context::Context;
use crate::exit::{Blame, Fault};
use crate::interrupt::{Interrupt, Second};
use crate::terminal::{self, Reporter, bytes, duration};
use lagar_press::PressError;
use std::time::Duration;

pub(crate) fn restore(context: &Context, args: &RestoreArgs) -> anyhow::Result<()> {
    let interrupt = Interrupt::catch(Second::Exits)?;
    let reporter = Reporter::new(context.messages, &interrupt);
    let cpu = context.cpu();
    let result = match &args.tensor {
        None => lagar_press::restore(&cpu, &args.file, &args.output, &reporter),
        Some(name) => lagar_press::restore_tensor(&cpu, &args.file, name, &args.output, &reporter),
    };
    drop(reporter);
    let restored = match result {
        // Of a file that is read, not written.
        Err(PressError::Format(error)) if !is_output_error(&error) => {
            return Err(error).blame(Fault::Input);
        }
        result => result?,
    };
    if context.json {
        return terminal::print_json(&serde_json::json!({
            "output": restored.path,
            "files": restored.files,
            "bytes": restored.bytes,
            "seconds": restored.seconds,
        }));
    }
    let files = match restored.files {
        1 => "1 file".to_owned(),
        n => format!("{n} files"),
    };
    context.messages.say(&format!(
        "restored {files}, {}, into {} in {}; every hash fits",
        bytes(restored.bytes),
        restored.path.display(),
        duration(Duration::from_secs_f64(restored.seconds)),
    ));
    Ok(())
}

/// A disk that is full is nobody's input.
fn is_output_error(error: &lagar_format::FormatError) -> bool {
    matches!(
        error.root(),
        lagar_format::FormatError::DiskFull { .. } | lagar_format::FormatError::Interrupted
    )
}
