//! `lagar bench`.

mod limits;
mod peers;
mod results;
mod timing;

use super::model;
use crate::args::BenchArgs;
use crate::context::Context;
use crate::exit::{self, Fault};
use crate::interrupt::{Interrupt, Second};
use crate::machine::{EnergyCounter, Machine};
use crate::terminal::{self, Reporter, bytes};
use lagar_engine::{Model, Work};
use lagar_format::os;
use lagar_kernels::Cpu;
use lagar_press::Progress as _;
use limits::Limits;
use peers::Peer;
use results::{Bench, Run};
use std::path::Path;
use std::sync::Arc;
use timing::{Case, Kind, Measured};

/// A model at one of its tiers.
struct Contestant {
    name: String,
    model: Arc<Model>,
    work: Work,
    /// Seconds from opening it to the logits after one token.
    first_token_seconds: f64,
    /// By so many threads.
    first_token_threads: usize,
}

/// Threads, and what the machine can do with them.
struct Processor {
    cpu: Cpu,
    limits: Limits,
}

pub(crate) fn bench(context: &Context, args: &BenchArgs) -> anyhow::Result<()> {
    let peers = args.compare.iter().map(|path| Peer::read(path));
    let peers = peers.collect::<anyhow::Result<Vec<_>>>()?.concat();
    let messages = context.messages;
    let energy = match args.energy.then(EnergyCounter::find) {
        None => None,
        Some(Ok(counter)) => Some(counter),
        Some(Err(e)) => {
            messages.say(&format!("no joules per token: {e:#}"));
            None
        }
    };
    let interrupt = Interrupt::catch(Second::Exits)?;
    let reporter = Reporter::new(messages, &interrupt);
    let counts: Vec<usize> = match &args.thread_counts[..] {
        [] => vec![context.executor().1],
        counts => counts.iter().map(|&count| count.into()).collect(),
    };
    let cpus: Vec<_> = counts.into_iter().map(|n| context.cpu_with(n)).collect();
    let mut contestants = Vec::new();
    for path in &args.models {
        for tier in tiers(args) {
            contestants.push(Contestant::open(context, args, path, tier, &cpus[0])?);
            interrupt.check()?;
        }
    }
    let cases = contestants.iter().map(|c| cases(args, c));
    let cases = cases.collect::<anyhow::Result<Vec<_>>>()?;
    let mut processors = Vec::new();
    reporter.phase("Measuring the machine", cpus.len() as u64);
    for cpu in cpus {
        reporter.detail(&format!(
            "measuring the machine with {} threads",
            cpu.threads()
        ));
        let limits = Limits::measure(&cpu);
        processors.push(Processor { cpu, limits });
        reporter.advance(1);
        interrupt.check()?;
    }
    let mut all = Vec::new();
    for (contestant, cases) in contestants.iter().zip(cases) {
        for case in cases {
            let processors = processors.iter();
            all.extend(processors.map(|processor| (contestant, processor, case)));
        }
    }
    let mut measured = vec![Measured::default(); all.len()];
    reporter.phase("Measuring", all.len() as u64 * u64::from(args.rounds));
    for round in 1..=args.rounds {
        for (place, ((contestant, processor, case), measured)) in
            all.iter().zip(&mut measured).enumerate()
        {
            reporter.detail(&format!(
                "round {round} of {}, {} of {}: {}, {case}, {} threads",
                args.rounds,
                place + 1,
                all.len(),
                contestant.name,
                processor.cpu.threads()
            ));
            let counter = energy.as_ref();
            let (cpu, model) = (&processor.cpu, &contestant.model);
            measured.time(cpu, model, case, counter, &interrupt)?;
            reporter.advance(1);
        }
    }
    drop(reporter);
    let runs = all.iter().zip(&measured);
    let runs = runs.map(|((contestant, processor, case), measured)| {
        Run::new(contestant, processor, case, measured)
    });
    let bench = Bench::new(
        Machine::new(context.executor().0.name()),
        &processors,
        runs.collect(),
        &peers,
    );
    if context.json {
        terminal::print_json(&bench)
    } else {
        terminal::print_styled(&bench.render(args.format)?)
    }
}

/// The tiers that were asked for; `None` for the best that fits.
fn tiers(args: &BenchArgs) -> Vec<Option<&str>> {
    match &args.tier[..] {
        [] => vec![None],
        tiers => tiers.iter().map(|tier| Some(tier.as_str())).collect(),
    }
}

impl Contestant {
    fn open(
        context: &Context,
        args: &BenchArgs,
        path: &Path,
        tier: Option<&str>,
        cpu: &Cpu,
    ) -> anyhow::Result<Self> {
        let start = std::time::Instant::now();
        let model = model::open_fitting(context, path, tier, args.kv, args.huge_pages)?;
        timing::first_token(cpu, &model)?;
        Ok(Self {
            name: path.display().to_string(),
            first_token_seconds: start.elapsed().as_secs_f64(),
            first_token_threads: cpu.threads(),
            work: model.work(cpu)?,
            model,
        })
    }
}

/// Prompts that are read if none are asked for, as far as a model's context holds them.
const PROMPTS: [usize; 2] = [128, 512];
/// Tokens that are made, likewise.
const GENERATED: usize = 64;

/// What is measured of a model.
fn cases(
    args: &BenchArgs,
    Contestant { name, model, .. }: &Contestant,
) -> anyhow::Result<Vec<Case>> {
    let room = model.spec().context;
    let mut prompts = match &args.prompt[..] {
        [] => PROMPTS.map(|prompt| prompt.min(room)).to_vec(),
        prompts => prompts.to_vec(),
    };
    prompts.dedup();
    let before = args.context.iter().copied().max().unwrap_or(0);
    let fitting = room.saturating_sub(before).clamp(1, GENERATED);
    let generated = args.generate.unwrap_or(fitting);
    let mut cases = Vec::new();
    for prompt in prompts.into_iter().filter(|&prompt| prompt > 0) {
        cases.push(Case {
            kind: Kind::Prefill,
            before: 0,
            tokens: prompt,
            batch: 1,
        });
    }
    if generated > 0 {
        for &before in &args.context {
            for &batch in &args.batch {
                cases.push(Case {
                    kind: Kind::Decode,
                    before,
                    tokens: generated,
                    batch: batch.into(),
                });
            }
        }
    }
    if let Some(case) = cases.iter().find(|case| case.room() > room) {
        let message = format!(
            "{case} takes a context of {} tokens, and that of {name} is {room}; --prompt, --generate and --context say how many tokens",
            case.room()
        );
        return Err(exit::fault(Fault::Usage, message));
    }
    let cache = |case: &Case| case.batch as u64 * model.cache_bytes(case.room());
    let most = cases.iter().max_by_key(|case| cache(case));
    if let (Some(case), Some(free)) = (most, os::available_memory())
        && cache(case) > free
    {
        let message = format!(
            "{case} takes {} for keys and values with {name}, and {} of memory are free; --batch, --context and --kv say how much",
            bytes(cache(case)),
            bytes(free)
        );
        return Err(exit::fault(Fault::Usage, message));
    }
    if cases.is_empty() {
        let message = "nothing to measure: both --prompt and --generate are 0";
        return Err(exit::fault(Fault::Usage, message));
    }
    Ok(cases)
}
