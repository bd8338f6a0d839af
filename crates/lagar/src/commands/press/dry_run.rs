//! What a press would make.

use crate::args::PressArgs;
use crate::context::Context;
use crate::terminal::{self, Align, Table, bytes, count, duration, escape};
use lagar_press::{Plan, PlannedTier, PressOptions, StageBits};
use serde::Serialize;
use std::time::Duration;

/// The object of `press --dry-run --json`.
#[derive(Debug, Serialize)]
struct Planned<'a> {
    architecture: &'a str,
    parameters: u64,
    recipe: &'static str,
    /// The stages, as `--tiers` has them.
    stages: String,
    calibration_tokens: usize,
    checkpoint_bytes: u64,
    tiers: Vec<TierLine>,
    /// What is possible for the tier that has a target; null without one.
    target: Option<Target>,
    /// About how long the press would take.
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct TierLine {
    name: &'static str,
    /// Of the file up to its end.
    bytes: u64,
    /// Whether that is a guess.
    guess: bool,
    /// Whether it will be as long as a divergence needs, which nobody knows yet.
    #[serde(skip)]
    open: bool,
    bits_per_parameter: f64,
    /// To run it: weights, and keys, values and intermediate values of a context.
    memory_bytes: u64,
    context: usize,
}

#[derive(Debug, Serialize)]
struct Target {
    tier: &'static str,
    bytes: u64,
    floor_bytes: u64,
    ceiling_bytes: u64,
}

/// Shows a plan.
pub(super) fn show(
    context: &Context,
    args: &PressArgs,
    options: &PressOptions,
    plan: &Plan,
) -> anyhow::Result<()> {
    let planned = Planned {
        architecture: &plan.architecture,
        parameters: plan.parameters,
        recipe: options.recipe.name(),
        stages: options.stages(),
        calibration_tokens: plan.calibration_tokens,
        checkpoint_bytes: plan.checkpoint_bytes,
        tiers: (plan.tiers.iter().enumerate())
            .map(|(at, tier)| tier_line(tier, plan, options.tiers.get(at)))
            .collect(),
        target: plan.bounds.first().map(|bounds| Target {
            tier: bounds.tier,
            bytes: bounds.target,
            floor_bytes: bounds.floor,
            ceiling_bytes: bounds.ceiling,
        }),
        seconds: plan.seconds,
    };
    if context.json {
        terminal::print_json(&planned)
    } else {
        terminal::print_styled(&planned.render(args))
    }
}

fn tier_line(tier: &PlannedTier, plan: &Plan, stage: Option<&StageBits>) -> TierLine {
    TierLine {
        name: tier.name,
        bytes: tier.bytes,
        guess: tier.is_guess,
        open: matches!(stage, Some(StageBits::Divergence(_))),
        bits_per_parameter: bits(tier.bytes, plan.parameters),
        memory_bytes: tier.memory.total(),
        context: tier.memory.context,
    }
}

fn bits(bytes: u64, parameters: u64) -> f64 {
    8.0 * bytes as f64 / parameters.max(1) as f64
}

impl Planned<'_> {
    fn render(&self, args: &PressArgs) -> String {
        let mut table = Table::new(&[
            ("tier", Align::Left),
            ("bytes", Align::Right),
            ("bits/parameter", Align::Right),
            ("memory to run", Align::Right),
        ]);
        for tier in &self.tiers {
            if tier.open {
                let unknown = || "as needed".to_owned();
                table.row([tier.name.to_owned(), unknown(), unknown(), unknown()]);
                continue;
            }
            let about = if tier.guess { "about " } else { "" };
            table.row([
                tier.name.to_owned(),
                format!("{about}{}", bytes(tier.bytes)),
                format!("{about}{:.2}", tier.bits_per_parameter),
                bytes(tier.memory_bytes),
            ]);
        }
        let mut out = format!(
            "{}: {} parameters, {} in {}\nwould be pressed with --recipe {} --tiers {} and {} tokens of calibration text into {}\n\n{}",
            escape(self.architecture),
            count(self.parameters),
            bytes(self.checkpoint_bytes),
            escape(&args.checkpoint.to_string_lossy()),
            self.recipe,
            self.stages,
            self.calibration_tokens,
            escape(&args.output.to_string_lossy()),
            table.render(),
        );
        if let Some(tier) = self.tiers.first() {
            out.push_str(&format!(
                "memory: weights, and a context of {} tokens\n",
                tier.context
            ));
        }
        if let Some(target) = &self.target {
            let words = |bytes: u64| {
                let bits = bits(bytes, self.parameters);
                format!("{} ({bits:.2} bits per parameter)", terminal::bytes(bytes))
            };
            out.push_str(&format!(
                "tier {} shall have {}; possible are {} to {}\n",
                target.tier,
                words(target.bytes),
                words(target.floor_bytes),
                words(target.ceiling_bytes)
            ));
        }
        out.push_str(&format!(
            "the press would take about {}; nothing was written\n",
            duration(Duration::from_secs_f64(self.seconds))
        ));
        out
    }
}
