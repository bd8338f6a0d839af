//! Quality over several draws of the random signs, since one draw says little:
//! `cargo run --release -p lagar-press --example draws -- CHECKPOINT CALIBRATION TEXT SEEDS PRESS…`.
//!
//! EFFORT in `--effort=EFFORT`, before the others, is that of the refinement; TOKENS in `--tokens=TOKENS`, behind it, how many
//! are read for calibration. Divergences on the press's own held-out text
//! before and after are printed too.
//!
//! `PRESS` is `TIERS`, `TIERS:PRIMARY`, `TIERS::DAMPING,…` or `TIERS:::ROUNDS`, such as `2,2`, `2,2:R` (primary tiers are R, RG, RGB),
//! `2,2::0.3,0.1`, `2.56` (an average) and `2.56bpw` (of the whole file); `codebook/4` is by another recipe, `ternary/`
//! by its usual stages. Presses each with seeds `0..SEEDS`, or those of a range `FIRST..END`, and prints, for every tier, KL to the original and top-1
//! agreement on the first 12,288 tokens of `TEXT`, each with mean and range, then bits per parameter of the tier's prefix.
#![allow(clippy::print_stdout)]

use std::path::Path;

use lagar_engine::{Model, ModelOptions};
use lagar_kernels::{Cpu, Isa};
use lagar_press::{
    EvaluationOptions, PressOptions, Recipe, Request, STAGE_TIERS, Silent, StageBits, evaluate,
    press,
};

const TOKENS: usize = 12_288;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let mut option = |name: &str| {
        let value = args.first()?.strip_prefix(name)?.to_owned();
        args.remove(0);
        Some(value)
    };
    let effort: Option<u8> = option("--effort=").as_deref().map(str::parse).transpose()?;
    let tokens: Option<usize> = option("--tokens=").as_deref().map(str::parse).transpose()?;
    let [checkpoint, calibration, text, seeds, presses @ ..] = &args[..] else {
        return Err("usage: draws CHECKPOINT CALIBRATION TEXT SEEDS PRESS…".into());
    };
    let calibration = std::fs::read_to_string(calibration)?;
    let text = std::fs::read_to_string(text)?;
    let seeds = match seeds.split_once("..") {
        Some((first, end)) => first.parse()?..end.parse()?,
        None => 0..seeds.parse::<u64>()?,
    };
    let cpu = Cpu::new(Isa::best(), std::thread::available_parallelism()?.get());
    let original = Model::open(checkpoint, None, &ModelOptions::default())?;
    let output = std::env::temp_dir().join(format!("lagar-draws-{}.lagar", std::process::id()));
    for wanted in presses {
        let options = parse(wanted)?;
        let tiers = options.stage_tiers();
        let mut measured = vec![(Vec::new(), Vec::new(), 0.0); tiers.len()];
        for seed in seeds.clone() {
            let mut options = options.clone();
            options.seed = seed;
            options.effort = effort.unwrap_or(options.effort);
            options.tokens = tokens.unwrap_or(options.tokens);
            let request = Request {
                checkpoint: Path::new(checkpoint),
                text: &calibration,
                held_out: None,
                cost: None,
                output: &output,
                options,
                resume: false,
            };
            let report = press(&cpu, &request, &Silent)?;
            for refined in &report.refinements {
                println!(
                    "  seed {seed}, tier {}: {:.5} before, {:.5} after {} steps; {:.1} s in all",
                    refined.tier,
                    refined.kl_before,
                    refined.kl_after,
                    refined.steps,
                    report.seconds
                );
            }
            for (tier, (kl, agreement, bits)) in tiers.iter().zip(&mut measured) {
                let pressed = Model::open(&output, Some(tier), &ModelOptions::default())?;
                let options = EvaluationOptions::new(None, Some(TOKENS));
                let measured = evaluate(&cpu, &pressed, Some(&original), &text, &options, &Silent)?;
                let compared = measured.reference.ok_or("no comparison")?;
                kl.push(compared.kl_mean);
                agreement.push(compared.top1_agreement);
                *bits = 8.0 * pressed.file_bytes() as f64 / pressed.parameters() as f64;
            }
        }
        for (tier, (kl, agreement, bits)) in tiers.iter().zip(&measured) {
            println!(
                "{wanted} {tier}: KL {}, top-1 agreement {}, {bits:.3} bits",
                summary(kl),
                summary(agreement)
            );
        }
    }
    std::fs::remove_file(output)?;
    Ok(())
}

fn parse(text: &str) -> Result<PressOptions, Box<dyn std::error::Error>> {
    let (recipe, text) = match text.split_once('/') {
        Some((recipe, text)) => (recipe.parse()?, text),
        None => (Recipe::default(), text),
    };
    if text.is_empty() {
        return Ok(PressOptions::default().with_recipe(recipe));
    }
    let mut fields = text.split(':');
    let tiers = fields.next().unwrap_or_default().split(',').map(str::parse);
    let tiers = tiers.collect::<Result<Vec<StageBits>, _>>()?;
    let mut options = PressOptions::default()
        .with_recipe(recipe)
        .with_stages(tiers, false);
    if let Some(name) = fields.next().filter(|name| !name.is_empty()) {
        let place = STAGE_TIERS.iter().position(|tier| *tier == name);
        options.primary = Some(place.ok_or("no such tier")?);
    }
    if let Some(dampings) = fields.next().filter(|dampings| !dampings.is_empty()) {
        let dampings = dampings.split(',').map(str::parse);
        options.damping = Some(dampings.collect::<Result<_, _>>()?);
    }
    options.rounds = fields.next().map(str::parse).transpose()?;
    Ok(options)
}

/// Mean and range.
fn summary(values: &[f64]) -> String {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{mean:.5} ({least:.5}–{most:.5})")
}
