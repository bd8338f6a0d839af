//! `lagar split` and `lagar join`.

use crate::args::{JoinArgs, SplitArgs};
use crate::context::Context;
use crate::exit::{self, Blame, Fault};
use crate::interrupt::{Interrupt, Second};
use crate::terminal::{self, Reporter, bytes};
use lagar_format::{Container, FormatError, Limits};
use lagar_press::{PressError, Progress};

pub(crate) fn split(context: &Context, args: &SplitArgs) -> anyhow::Result<()> {
    let container = Container::open(&args.file, &Limits::default()).blame(Fault::Input)?;
    let index = container.index();
    let Some(tier) = index.tier(&args.tier) else {
        let held: Vec<&str> = index.tiers.iter().map(|tier| tier.name.as_str()).collect();
        let message = format!(
            "{}: there is no tier {:?}; the file holds {}",
            args.file.display(),
            args.tier,
            held.join(", ")
        );
        return Err(exit::fault(Fault::Usage, message));
    };
    let rest = args.rest.as_deref();
    let written = working(context, "Splitting", |go_on| {
        lagar_format::split(&container, tier, &args.output, rest, go_on)
    })?;
    if context.json {
        return terminal::print_json(&serde_json::json!({
            "output": args.output,
            "output_bytes": written.output,
            "rest": rest,
            "rest_bytes": rest.map(|_| written.rest),
        }));
    }
    let rest = rest.map_or(String::new(), |rest| {
        format!(" and {}, {}", rest.display(), bytes(written.rest))
    });
    context.messages.say(&format!(
        "wrote {}, {}{rest}",
        args.output.display(),
        bytes(written.output)
    ));
    Ok(())
}

pub(crate) fn join(context: &Context, args: &JoinArgs) -> anyhow::Result<()> {
    let limits = Limits::default();
    let written = working(context, "Joining", |go_on| {
        lagar_format::join(&args.first, &args.tail, &args.output, &limits, go_on)
    })?;
    if context.json {
        return terminal::print_json(&serde_json::json!({
            "output": args.output,
            "output_bytes": written,
        }));
    }
    let (output, written) = (args.output.display(), bytes(written));
    context.messages.say(&format!("wrote {output}, {written}"));
    Ok(())
}

/// Runs work of the format crate with progress and Ctrl-C.
fn working<T>(
    context: &Context,
    phase: &str,
    work: impl FnOnce(&mut dyn FnMut(u64, u64) -> bool) -> Result<T, FormatError>,
) -> anyhow::Result<T> {
    let interrupt = Interrupt::catch(Second::Exits)?;
    let reporter = Reporter::new(context.messages, &interrupt);
    let mut shown = None;
    let result = work(&mut |done, total| {
        let before = *shown.get_or_insert_with(|| {
            reporter.phase(phase, total);
            0
        });
        reporter.advance(done - before);
        shown = Some(done);
        !reporter.cancelled()
    });
    drop(reporter);
    match result {
        Err(FormatError::Interrupted) => Err(PressError::Interrupted.into()),
        Err(error) => match error.root() {
            FormatError::SameFile { .. } | FormatError::NothingFollows { .. } => {
                Err(error).blame(Fault::Usage)
            }
            // Inputs that cannot be read; an output that cannot be written is no input.
            FormatError::Io {
                action: "open" | "map" | "examine",
                ..
            } => Err(error).blame(Fault::Input),
            _ => Err(error.into()),
        },
        Ok(done) => Ok(done),
    }
}
