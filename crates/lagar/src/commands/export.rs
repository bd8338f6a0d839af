//! `lagar export`.

use super::model;
use crate::args::{ExportArgs, ExportDtype};
use crate::context::Context;
use crate::exit::{self, Fault};
use crate::interrupt::{Interrupt, Second};
use crate::terminal::{self, Reporter};

pub(crate) fn export(context: &Context, args: &ExportArgs) -> anyhow::Result<()> {
    if args.file.is_dir() {
        let message = format!(
            "{} is a checkpoint already; export takes a .lagar file",
            args.file.display()
        );
        return Err(exit::fault(Fault::Usage, message));
    }
    let cpu = context.cpu();
    let model = model::open(context, &args.file, args.tier.as_deref())?;
    let dtype = match args.dtype {
        ExportDtype::F32 => lagar_press::ExportDtype::F32,
        ExportDtype::Bf16 => lagar_press::ExportDtype::Bf16,
        ExportDtype::F16 => lagar_press::ExportDtype::F16,
    };
    let interrupt = Interrupt::catch(Second::Exits)?;
    let reporter = Reporter::new(context.messages, &interrupt);
    lagar_press::export(&cpu, &model, &args.output, dtype, &reporter)?;
    drop(reporter);
    if context.json {
        terminal::print_json(
            &serde_json::json!({ "output": args.output, "parameters": model.parameters() }),
        )
    } else {
        context.messages.say(&format!(
            "wrote the checkpoint folder {}",
            args.output.display()
        ));
        Ok(())
    }
}
