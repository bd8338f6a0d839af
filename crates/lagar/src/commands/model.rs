//! Opening models as the options ask.

use crate::args::{ActivationKind, KvKind, TierArgs};
use crate::context::Context;
use crate::exit::{self, Blame, Fault};
use crate::terminal::bytes;
use lagar_engine::{Activations, KvFormat, Model, ModelOptions, TierMemory, fit_tier};
use lagar_format::{Container, Limits, os};
use std::path::Path;
use std::sync::Arc;

/// What a text is made with.
#[derive(Debug)]
pub(super) struct Models {
    pub(super) model: Arc<Model>,
    /// A lower tier of the same file, which drafts.
    pub(super) draft: Option<Arc<Model>>,
    /// How they were opened, for opening other tiers.
    pub(super) options: ModelOptions,
}

/// Opens a `.lagar` file or a checkpoint folder; a file at its best tier unless one is named.
pub(super) fn open(
    context: &Context,
    path: &Path,
    tier: Option<&str>,
) -> anyhow::Result<Arc<Model>> {
    open_with(context, path, tier, &options(context, None))
}

/// Opens what others are compared with, at its best tier if it has any; its keys and values are not rounded.
pub(super) fn open_reference(context: &Context, path: &Path) -> anyhow::Result<Arc<Model>> {
    open_with(context, path, None, &options(context, Some(KvKind::F32)))
}

/// The same as [`open`] with a cache of that kind; a file at the best tier that fits in memory unless one is named.
pub(super) fn open_fitting(
    context: &Context,
    path: &Path,
    tier: Option<&str>,
    kv: Option<KvKind>,
    huge_pages: bool,
) -> anyhow::Result<Arc<Model>> {
    let args = TierArgs {
        tier: tier.map(str::to_owned),
        kv,
        huge_pages,
        ..TierArgs::default()
    };
    Ok(open_to_generate(context, path, &args)?.model)
}

/// Opens what the options ask for to make texts with.
pub(super) fn open_to_generate(
    context: &Context,
    path: &Path,
    args: &TierArgs,
) -> anyhow::Result<Models> {
    let mut options = options(context, args.kv).with_huge_pages(args.huge_pages);
    if path.is_dir() {
        for (option, tier) in [("--draft", &args.draft), ("--resident", &args.resident)] {
            if let Some(tier) = tier {
                let message = format!(
                    "{option} {tier}: {} is a checkpoint folder and has no tiers; lagar press makes a file that does",
                    path.display()
                );
                return Err(exit::fault(Fault::Usage, message));
            }
        }
        if args.huge_pages {
            let message = format!(
                "--huge-pages: {} is a checkpoint folder, whose weights are always mapped; lagar press makes a file that can be copied",
                path.display()
            );
            return Err(exit::fault(Fault::Usage, message));
        }
        let model = open_with(context, path, args.tier.as_deref(), &options)?;
        return Ok(Models {
            model,
            draft: None,
            options,
        });
    }
    let tiers = Tiers::read(path)?;
    tiers.say_what_is_missing(context);
    let tier = match &args.tier {
        Some(tier) => tier.clone(),
        // Only the resident tier has to fit.
        None if args.resident.is_some() => tiers.best().to_owned(),
        None => tiers.fitting(context, &options)?,
    };
    for (option, lower) in [("--draft", &args.draft), ("--resident", &args.resident)] {
        if let Some(lower) = lower {
            tiers.check_lower(option, lower, &tier)?;
        }
    }
    let draft_options = options.clone();
    if let Some(resident) = &args.resident {
        options = options.with_resident(resident);
    }
    let model = open_with(context, path, Some(&tier), &options)?;
    if args.huge_pages {
        match os::huge_page_bytes() {
            Some(0) => context.messages.say(
                "--huge-pages: none of the weights lie in large pages; they are copied to memory as usual",
            ),
            Some(n) => (context.messages).detail(&format!("{} lie in large pages", bytes(n))),
            None => {}
        }
    }
    let draft = match &args.draft {
        None => None,
        Some(tier) => Some(Arc::new(model.at_tier(tier, &draft_options)?)),
    };
    Ok(Models {
        model,
        draft,
        options,
    })
}

fn options(context: &Context, kv: Option<KvKind>) -> ModelOptions {
    let activations = match context.activations {
        ActivationKind::Int8 => Activations::Int8,
        ActivationKind::F32 => Activations::F32,
    };
    let (isa, threads) = context.executor();
    let options = ModelOptions::default()
        .with_activations(activations)
        .with_decoding(isa, threads);
    match kv {
        None => options,
        Some(KvKind::F32) => options.with_kv(KvFormat::F32),
        Some(KvKind::F16) => options.with_kv(KvFormat::F16),
        Some(KvKind::Q8) => options.with_kv(KvFormat::Q8),
        Some(KvKind::Q4) => options.with_kv(KvFormat::Q4),
    }
}

fn open_with(
    context: &Context,
    path: &Path,
    tier: Option<&str>,
    options: &ModelOptions,
) -> anyhow::Result<Arc<Model>> {
    let model = Model::open(path, tier, options)?;
    let size = bytes(model.file_bytes());
    let tier = model
        .tier()
        .map_or(String::new(), |tier| format!(", tier {tier}"));
    context.messages.detail(&format!(
        "opened {}: {}{tier}, {size}",
        path.display(),
        model.spec().architecture
    ));
    Ok(Arc::new(model))
}

/// The tiers of a file, before any of them is opened.
struct Tiers<'a> {
    path: &'a Path,
    container: Container,
}

impl<'a> Tiers<'a> {
    fn read(path: &'a Path) -> anyhow::Result<Self> {
        let container = Container::open(path, &Limits::default()).blame(Fault::Input)?;
        Ok(Self { path, container })
    }

    /// Names of all tiers, whole or not.
    fn all(&self) -> Vec<&str> {
        let tiers = self.container.index().tiers.iter();
        tiers.map(|tier| tier.name.as_str()).collect()
    }

    /// Names of the tiers that can be run.
    fn whole(&self) -> Vec<&str> {
        let mut names = self.all();
        names.truncate(self.container.tiers_complete());
        names
    }

    /// The best tier that can be run. (Without any, the file would not have opened.)
    fn best(&self) -> &str {
        self.whole().last().copied().unwrap_or_default()
    }

    fn say_what_is_missing(&self, context: &Context) {
        let (all, whole) = (self.all(), self.whole());
        if let Some(cut) = all.get(whole.len()) {
            context.messages.say(&format!(
                "{} ends within tier {cut}; it can be run at {}",
                self.path.display(),
                whole.join(", ")
            ));
        }
    }

    /// The best tier that fits in the memory that is free. Says which where there is a choice.
    fn fitting(&self, context: &Context, options: &ModelOptions) -> anyhow::Result<String> {
        let available = os::available_memory();
        let fit = fit_tier(&self.container, available, options)?;
        if fit.tiers.len() > 1 {
            let next = fit.tiers.get(fit.best + 1).map(need);
            let line = reason(need(fit.choice()), next, available);
            context.messages.say(&line);
        }
        Ok(fit.choice().tier.clone())
    }

    /// Checks that a tier of an option can be run and lies below the one that runs.
    fn check_lower(&self, option: &str, lower: &str, tier: &str) -> anyhow::Result<()> {
        let whole = self.whole();
        let position = |name: &str| whole.iter().position(|known| *known == name);
        let message = match (position(lower), position(tier)) {
            (None, _) => format!(
                "{option} {lower}: no tier {lower} in {}; it holds {}",
                self.path.display(),
                whole.join(", ")
            ),
            (Some(lower_at), Some(at)) if lower_at >= at => {
                let higher = whole[lower_at + 1..].join(" or ");
                let hint = match higher.as_str() {
                    "" => "nothing lies above it in this file".to_owned(),
                    higher => format!("choose {higher} with --tier"),
                };
                format!("{option} {lower} has to lie below the tier that runs, {tier}; {hint}")
            }
            // A tier that is not there is refused when it is opened.
            _ => return Ok(()),
        };
        Err(exit::fault(Fault::Usage, message))
    }
}

/// A tier's name and the bytes that it needs.
fn need(tier: &TierMemory) -> (&str, u64) {
    (&tier.tier, tier.total())
}

/// Why the tier that was chosen is the one, in one line; `next` is the one above it. With each its
/// name and the bytes that it needs.
fn reason(chosen: (&str, u64), next: Option<(&str, u64)>, available: Option<u64>) -> String {
    let words = format!("running tier {} ({})", chosen.0, bytes(chosen.1));
    let Some(available) = available else {
        return format!("{words}: how much memory is free is not known");
    };
    let free = format!("{} of memory are free", bytes(available));
    match next {
        _ if chosen.1 > available => format!("{words}, the smallest, though only {free}"),
        None => format!("{words}: {free}"),
        Some((name, needed)) => format!("{words}: {name} needs {}, {free}", bytes(needed)),
    }
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn the_reason_for_a_tier_says_what_did_not_fit() {
        let (low, high) = (("RG", 2_400_000_000), ("full", 13_100_000_000));
        for (chosen, next, available, expected) in [
            (
                low,
                Some(high),
                Some(9_000_000_000),
                "running tier RG (2.40 GB): full needs 13.1 GB, 9.00 GB of memory are free",
            ),
            (
                high,
                None,
                Some(20_000_000_000),
                "running tier full (13.1 GB): 20.0 GB of memory are free",
            ),
            (
                low,
                Some(high),
                Some(1_000_000_000),
                "running tier RG (2.40 GB), the smallest, though only 1.00 GB of memory are free",
            ),
            (
                high,
                None,
                None,
                "running tier full (13.1 GB): how much memory is free is not known",
            ),
        ] {
            assert_eq!(reason(chosen, next, available), expected);
        }
    }
}
