//! Measures drafting: `cargo run --release -p lagar-engine --example speculation -- TEXT TARGET DRAFT...`.
//!
//! Models are files or folders; `FILE@TIER` names a tier, and `FILE@TIER/RESIDENT` leaves what the
//! tier adds to a resident one on the disk. Continues eight places of the text by 128
//! tokens, greedy and sampled, with each of the drafts and several lengths, and checks that every
//! text is that of the target alone. Prints the share of guesses that were right, tokens per pass of
//! the target, and tokens per second beside those of the target alone.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::Duration;

use lagar_engine::generate::{DraftLength, Outcome};
use lagar_engine::{
    EngineError, GenerateOptions, Generator, Model, ModelOptions, ModelSequence, SamplingOptions,
};
use lagar_kernels::{Cpu, Isa};

const PLACES: usize = 8;
const PROMPT: usize = 64;
const GENERATED: usize = 128;
const LENGTHS: [usize; 5] = [1, 2, 4, 8, 16];

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: speculation TEXT TARGET DRAFT...";
    let text = std::fs::read_to_string(args.next().ok_or(usage)?)?;
    let target = open(&args.next().ok_or(usage)?)?;
    let cpu = Cpu::new(Isa::best(), 2);
    let tokens = target.tokenizer().encode(&text)?;
    let far = (tokens.len() - PROMPT) / PLACES;
    let prompts: Vec<&[u32]> = (0..PLACES).map(|i| &tokens[i * far..][..PROMPT]).collect();
    let ways = [
        ("greedy", SamplingOptions::GREEDY),
        (
            "temperature 0.8, top-p 0.95",
            SamplingOptions {
                temperature: 0.8,
                top_p: 0.95,
                ..SamplingOptions::default()
            },
        ),
        ("temperature 1", SamplingOptions::default()),
    ];
    let alone: Vec<Total> = ways
        .iter()
        .map(|(_, sampling)| continue_all(&cpu, &target, None, &prompts, *sampling))
        .collect::<Result<_, _>>()?;
    for name in args {
        let draft = open(&name)?;
        for ((way, sampling), alone) in ways.iter().zip(&alone) {
            println!("\ndraft {name}, {way}; alone {:.0} tokens/s", alone.rate());
            println!("| length | right guesses | tokens per pass | tokens/s |\n|---|---|---|---|");
            let fixed = LENGTHS.map(|k| (k.to_string(), DraftLength::Scheduled(vec![k])));
            let adaptive = ("adaptive".to_owned(), DraftLength::Adaptive);
            for (length_name, length) in fixed.into_iter().chain([adaptive]) {
                let drafting = Some((&draft, length));
                let total = continue_all(&cpu, &target, drafting, &prompts, *sampling)?;
                assert!(total.tokens == alone.tokens, "drafting changed a text");
                println!(
                    "| {length_name} | {:.3} | {:.2} | {:.0} |",
                    total.accepted as f64 / total.drafted.max(1) as f64,
                    total.decoded as f64 / total.passes as f64,
                    total.rate(),
                );
            }
        }
    }
    Ok(())
}

fn open(name: &str) -> Result<Arc<Model>, EngineError> {
    let mut options = ModelOptions::default();
    let Some((path, tiers)) = name.split_once('@') else {
        return Model::open(name, None, &options).map(Arc::new);
    };
    let tier = match tiers.split_once('/') {
        None => tiers,
        Some((tier, resident)) => {
            options = options.with_resident(resident);
            tier
        }
    };
    Model::open(path, Some(tier), &options).map(Arc::new)
}

/// All prompts together.
#[derive(Default)]
struct Total {
    tokens: Vec<u32>,
    decoded: usize,
    passes: usize,
    drafted: usize,
    accepted: usize,
    time: Duration,
}

impl Total {
    fn add(&mut self, outcome: Outcome) {
        self.tokens.extend(outcome.tokens);
        self.decoded += outcome.decoded_tokens;
        self.passes += outcome.full_passes;
        self.drafted += outcome.drafted;
        self.accepted += outcome.accepted;
        self.time += outcome.decode;
    }

    fn rate(&self) -> f64 {
        self.decoded as f64 / self.time.as_secs_f64()
    }
}

fn continue_all(
    cpu: &Cpu,
    target: &Arc<Model>,
    draft: Option<(&Arc<Model>, DraftLength)>,
    prompts: &[&[u32]],
    sampling: SamplingOptions,
) -> Result<Total, EngineError> {
    let sequence =
        |model: &Arc<Model>| ModelSequence::new(Arc::clone(model), cpu, PROMPT + GENERATED);
    let mut generator = Generator::new(sequence(target)?);
    if let Some((draft, length)) = draft {
        generator.set_draft(Some(sequence(draft)?), length);
    }
    let mut total = Total::default();
    for (seed, prompt) in (1..).zip(prompts) {
        let options = GenerateOptions {
            sampling: SamplingOptions { seed, ..sampling },
            max_tokens: Some(GENERATED),
            ..GenerateOptions::default()
        };
        let mut generation = generator.generate(target.tokenizer(), prompt, &options)?;
        while generation.next_piece()?.is_some() {}
        total.add(generation.finish());
    }
    Ok(total)
}
