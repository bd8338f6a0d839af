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
use crate::terminal;
use lagar_engine::{Model, Work};
use lagar_kernels::Cpu;
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
}

/// Threads, and what the machine can do with them.
struct Processor {
    cpu: Cpu,
    limits: Limits,
}

pub(crate) fn bench(context: &Context, args: &BenchArgs) -> anyhow::Result<()> {
    let peers = args.compare.iter().map(|path| Peer::read(path));
    let peers = peers.collect::<anyhow::Result<Vec<_>>>()?.concat();
    let energy = args.energy.then(EnergyCounter::find).transpose()?;
    let interrupt = Interrupt::catch(Second::Exits)?;
    let messages = context.messages;
    let counts: Vec<usize> = match &args.thread_counts[..] {
        [] => vec![context.executor().1],
        counts => counts.iter().map(|&count| count.into()).collect(),
    };
    let mut processors = Vec::new();
    for threads in counts {
        let cpu = context.cpu_with(threads);
        messages.detail(&format!("measuring the machine with {threads} threads"));
        let limits = Limits::measure(&cpu);
        processors.push(Processor { cpu, limits });
        interrupt.check()?;
    }
    let mut contestants = Vec::new();
    for path in &args.models {
        for tier in tiers(args) {
            contestants.push(Contestant::open(
                context,
                args,
                path,
                tier,
                &processors[0].cpu,
            )?);
            interrupt.check()?;
        }
    }
    let mut all = Vec::new();
    for contestant in &contestants {
        for case in cases(args, &contestant.model)? {
            let processors = processors.iter();
            all.extend(processors.map(|processor| (contestant, processor, case)));
        }
    }
    let mut measured = vec![Measured::default(); all.len()];
    for round in 1..=args.rounds {
        for (place, ((contestant, processor, case), measured)) in
            all.iter().zip(&mut measured).enumerate()
        {
            messages.detail(&format!(
                "round {round} of {}, {} of {}: {}, {case}, {} threads",
                args.rounds,
                place + 1,
                all.len(),
                contestant.name,
                processor.cpu.threads()
            ));
            let counter = energy.as_ref();
            measured.time(&processor.cpu, &contestant.model, case, counter)?;
            interrupt.check()?;
        }
    }
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
        terminal::print_styled(&bench.render(args.format))
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
            work: model.work(cpu)?,
            model,
        })
    }
}

/// What is measured of a model.
fn cases(args: &BenchArgs, model: &Model) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for &prompt in args.prompt.iter().filter(|&&prompt| prompt > 0) {
        cases.push(Case {
            kind: Kind::Prefill,
            before: 0,
            tokens: prompt,
            batch: 1,
        });
    }
    if args.generate > 0 {
        for &before in &args.context {
            for &batch in &args.batch {
                cases.push(Case {
                    kind: Kind::Decode,
                    before,
                    tokens: args.generate,
                    batch: batch.into(),
                });
            }
        }
    }
    let room = model.spec().context;
    if let Some(case) = cases.iter().find(|case| case.room() > room) {
        let message = format!(
            "{case} takes a context of {} tokens, and the model's is {room}; --prompt, --generate and --context say how many tokens",
            case.room()
        );
        return Err(exit::fault(Fault::Usage, message));
    }
    if cases.is_empty() {
        let message = "nothing to measure: both --prompt and --generate are 0";
        return Err(exit::fault(Fault::Usage, message));
    }
    Ok(cases)
}
