//! `lagar verify`.

use crate::args::VerifyArgs;
use crate::context::Context;
use crate::exit::{self, Fault};
use crate::interrupt::{Interrupt, Second};
use crate::terminal::{self, Reporter, bytes};
use lagar_press::{Difference, Differs, PressError, Verification};
use serde::Serialize;
use std::path::Path;

/// Damages and differences that are listed for people; all are in the JSON.
const SHOWN: usize = 20;

/// The object of `verify --json`.
#[derive(Debug, Serialize)]
struct Verified {
    ok: bool,
    tiers: Vec<TierLine>,
    /// Whether the checkpoint was decoded.
    exact: bool,
    files: usize,
    bytes: u64,
    tensors: usize,
    damage: Vec<DamageLine>,
    /// Null without `--against`.
    differences: Option<Vec<DifferenceLine>>,
}

#[derive(Debug, Serialize)]
struct TierLine {
    name: String,
    complete: bool,
    ok: bool,
}

#[derive(Debug, Serialize)]
struct DamageLine {
    tier: String,
    tensor: Option<String>,
    first_chunk: Option<usize>,
    last_chunk: Option<usize>,
    message: String,
}

#[derive(Debug, Serialize)]
struct DifferenceLine {
    file: String,
    tensor: Option<String>,
    /// `missing` in the folder, `extra` there, `content`, or `header` (of a file whose tensors are the same).
    differs: &'static str,
}

impl From<&Difference> for DifferenceLine {
    fn from(difference: &Difference) -> Self {
        Self {
            file: difference.file.clone(),
            tensor: difference.tensor.clone(),
            differs: match difference.differs {
                Differs::Missing => "missing",
                Differs::Extra => "extra",
                Differs::Content => "content",
                Differs::Header => "header",
            },
        }
    }
}

impl From<&Verification> for Verified {
    fn from(found: &Verification) -> Self {
        let tier = |tier: &lagar_press::TierState| TierLine {
            name: tier.name.clone(),
            complete: tier.complete,
            ok: tier.intact,
        };
        let damage = |damage: &lagar_press::Damage| DamageLine {
            tier: damage.tier.clone(),
            tensor: damage.tensor.clone(),
            first_chunk: damage.chunks.map(|(first, _)| first),
            last_chunk: damage.chunks.map(|(_, last)| last),
            message: damage.message.clone(),
        };
        let differences = found.differences.as_ref();
        Self {
            ok: found.is_good(),
            tiers: found.tiers.iter().map(tier).collect(),
            exact: found.exact,
            files: found.files,
            bytes: found.bytes,
            tensors: found.tensors,
            damage: found.damage.iter().map(damage).collect(),
            differences: differences.map(|list| list.iter().map(Into::into).collect()),
        }
    }
}

pub(crate) fn verify(context: &Context, args: &VerifyArgs) -> anyhow::Result<()> {
    let interrupt = Interrupt::catch(Second::Exits)?;
    let reporter = Reporter::new(context.messages, &interrupt);
    let against = args.against.as_deref();
    let result = lagar_press::verify(&context.cpu(), &args.file, against, &reporter);
    drop(reporter);
    let found = match result {
        Err(PressError::Interrupted) => return Err(PressError::Interrupted.into()),
        // All that is done is reading.
        Err(error) => return Err(exit::fault(Fault::Input, error)),
        Ok(found) => found,
    };
    if context.json {
        terminal::print_json(&Verified::from(&found))?;
    } else {
        terminal::print(&report(&args.file, against, &found))?;
    }
    if found.is_good() {
        return Ok(());
    }
    let file = args.file.display();
    let message = match (found.damage.len(), &found.differences, against) {
        (0, Some(differences), Some(folder)) => {
            let what = match differences.len() {
                1 => "1 difference".to_owned(),
                n => format!("{n} differences"),
            };
            format!(
                "{} is not what {file} was pressed from: {what}",
                folder.display()
            )
        }
        _ => format!("{file} is damaged; {}", usable(&found)),
    };
    Err(exit::fault(Fault::Input, message))
}

/// Which tiers can be used.
fn usable(found: &Verification) -> String {
    let tiers = found.tiers.iter().filter(|tier| tier.intact);
    let names: Vec<&str> = tiers.map(|tier| tier.name.as_str()).collect();
    match names.as_slice() {
        [] => "no tier can be used; copy the file again".to_owned(),
        names => format!("tiers that still run: {}", names.join(", ")),
    }
}

fn report(file: &Path, against: Option<&Path>, found: &Verification) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&terminal::escape(&line));
        text.push('\n');
    };
    for tier in &found.tiers {
        let state = match (tier.complete, tier.intact) {
            (false, _) => "not there, or not to its end",
            (true, true) => "whole",
            (true, false) => "damaged",
        };
        line(format!("{:5} {state}", tier.name));
    }
    let mut list = |lines: Vec<String>| {
        let more = lines.len().saturating_sub(SHOWN);
        lines.into_iter().take(SHOWN).for_each(&mut line);
        if more > 0 {
            line(format!("and {more} more; --json lists all"));
        }
    };
    list(found.damage.iter().map(|d| d.message.clone()).collect());
    if let Some(differences) = &found.differences {
        list(differences.iter().map(ToString::to_string).collect());
    }
    if found.exact && found.damage.is_empty() {
        line(format!(
            "the checkpoint comes back: {} files, {}, {} tensors, every hash fits",
            found.files,
            bytes(found.bytes),
            found.tensors
        ));
    } else if found.damage.is_empty() {
        line(format!(
            "{}: every checksum fits; without tier full there is no checkpoint to compare",
            file.display()
        ));
    }
    if let (Some(folder), Some([])) = (against, found.differences.as_deref()) {
        line(format!("{} is what was pressed", folder.display()));
    }
    text
}
