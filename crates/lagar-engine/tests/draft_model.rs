//! The lower tiers of a pressed file draft for the higher ones.

use std::path::Path;
use std::sync::Arc;

use lagar_engine::generate::{DraftLength, Outcome};
use lagar_engine::{
    Activations, GenerateOptions, Generator, KvFormat, Model, ModelOptions, ModelSequence,
    NoObserver, SamplingOptions, StopReason,
};
use lagar_kernels::{Cpu, Isa};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

mod pressed;

/// A file of three tiers in the shape of a fixture, at each tier.
fn tiers(fixture: &str, options: &ModelOptions) -> [Arc<Model>; 3] {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(fixture);
    let into = tempfile::tempdir().unwrap();
    let recipe = pressed::Recipe {
        depths: vec![3, 2, 2],
        ..Default::default()
    };
    let file = pressed::write(&folder, &recipe, into.path(), "three.lagar");
    ["R", "RG", "RGB"].map(|tier| Arc::new(Model::open(&file, Some(tier), options).unwrap()))
}

fn generator<'c>(model: &Arc<Model>, cpu: &'c Cpu) -> Generator<ModelSequence<'c>> {
    Generator::new(sequence(model, cpu))
}

fn sequence<'c>(model: &Arc<Model>, cpu: &'c Cpu) -> ModelSequence<'c> {
    ModelSequence::new(Arc::clone(model), cpu, 96).unwrap()
}

fn generate(
    generator: &mut Generator<ModelSequence<'_>>,
    model: &Model,
    prompt: &[u32],
    options: &GenerateOptions<'_>,
) -> (String, Outcome) {
    let mut generation = generator
        .generate(model.tokenizer(), prompt, options)
        .unwrap();
    let mut text = String::new();
    while let Some(piece) = generation.next_piece().unwrap() {
        text += &piece;
    }
    (text, generation.finish())
}

#[test]
fn logits_of_a_batch_are_those_of_its_tokens_one_by_one() {
    let cpu = Cpu::new(Isa::best(), 2);
    for fixture in ["llama3", "mistral", "qwen3"] {
        for model in tiers(fixture, &ModelOptions::default()) {
            let vocabulary = model.spec().vocabulary;
            let tokens: Vec<u32> = (0..40).map(|i| i * 97 % vocabulary as u32).collect();
            let mut session = model.session(96).unwrap();
            let mut singly = Vec::new();
            for token in &tokens {
                let logits = model.next_logits(&cpu, &mut session, &[*token], &mut NoObserver);
                singly.extend_from_slice(logits.unwrap());
            }
            for chunk in [3, 16, 512] {
                for positions in [0, 1, 2, 17, 40] {
                    let mut session = model.session(96).unwrap();
                    session.set_chunk(chunk);
                    let logits = model
                        .last_logits(&cpu, &mut session, &tokens, positions, &mut NoObserver)
                        .unwrap();
                    let expected = &singly[singly.len() - positions * vocabulary..];
                    assert!(
                        logits == expected,
                        "{fixture}: {positions} positions, pieces of {chunk}"
                    );
                }
            }
        }
    }
}

/// Of a chat of two turns: greedy and sampled, at any pair of tiers, at any lengths of drafts.
#[test]
fn a_lower_tier_that_drafts_changes_no_token() {
    let cpu = Cpu::new(Isa::best(), 2);
    let mut runner = TestRunner::new(Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    });
    let mut accepted = 0;
    for (fixture, activations, kv) in [
        ("llama3", Activations::Int8, KvFormat::F16),
        ("mistral", Activations::Int8, KvFormat::Q4),
        ("qwen3", Activations::F32, KvFormat::Q8),
    ] {
        let options = ModelOptions::default().with_activations(activations);
        let options = options.with_kv(kv);
        let models = tiers(fixture, &options);
        let counted = std::cell::Cell::new(0);
        let case = (
            (0_usize..3, 0_usize..3),
            proptest::collection::vec(0_u32..300, 1..30),
            proptest::collection::vec(0_u32..300, 1..10),
            proptest::collection::vec(0_usize..10, 1..4),
            prop_oneof![Just(0.0_f32), 0.2_f32..1.0],
            prop_oneof![Just(1.0_f32), 1.0_f32..1.3],
            any::<u64>(),
        );
        runner
            .run(
                &case,
                |(pair, first, then, schedule, temperature, penalty, seed)| {
                    let (draft, target) = (&models[pair.0], &models[pair.1]);
                    let options = GenerateOptions {
                        sampling: SamplingOptions {
                            temperature,
                            top_p: 0.9,
                            repeat_penalty: penalty,
                            seed,
                            ..SamplingOptions::GREEDY
                        },
                        max_tokens: Some(24),
                        ..GenerateOptions::default()
                    };
                    let mut plain = generator(target, &cpu);
                    let mut drafted = generator(target, &cpu);
                    drafted.set_draft(
                        Some(sequence(draft, &cpu)),
                        DraftLength::Scheduled(schedule),
                    );
                    let mut conversation = first;
                    for said in [&[][..], &then] {
                        conversation.extend_from_slice(said);
                        let expected = generate(&mut plain, target, &conversation, &options);
                        let got = generate(&mut drafted, target, &conversation, &options);
                        prop_assert_eq!(got.0, expected.0);
                        prop_assert_eq!(&got.1.tokens, &expected.1.tokens);
                        prop_assert_eq!(got.1.stop, expected.1.stop);
                        if pair.0 == pair.1 {
                            prop_assert_eq!(got.1.accepted, got.1.drafted);
                        }
                        counted.set(counted.get() + got.1.accepted);
                        conversation.extend(got.1.tokens);
                    }
                    Ok(())
                },
            )
            .unwrap();
        accepted += counted.get();
    }
    assert!(accepted > 100, "{accepted} accepted");
}

#[test]
fn drafting_up_to_the_end_of_the_context_stops_where_the_target_alone_does() {
    let cpu = Cpu::new(Isa::best(), 2);
    let [draft, _, target] = tiers("llama3", &ModelOptions::default());
    let prompt: Vec<u32> = (10..70).collect();
    let options = GenerateOptions::default();
    let expected = generate(&mut generator(&target, &cpu), &target, &prompt, &options);
    let mut drafted = generator(&target, &cpu);
    drafted.set_draft(
        Some(sequence(&draft, &cpu)),
        DraftLength::Scheduled(vec![7]),
    );
    let got = generate(&mut drafted, &target, &prompt, &options);
    assert_eq!(got.1.stop, StopReason::ContextFull);
    assert_eq!(got.1.tokens, expected.1.tokens);
    assert_eq!(got.0, expected.0);
}

/// The cache was computed by R; RGB goes on with it, and R may draft from then on.
#[test]
fn a_text_goes_on_at_another_tier_with_what_is_cached() {
    let cpu = Cpu::new(Isa::best(), 2);
    let [low, _, high] = tiers("qwen3", &ModelOptions::default());
    let options = GenerateOptions {
        max_tokens: Some(12),
        ..GenerateOptions::default()
    };
    let prompt: Vec<u32> = (10..30).collect();
    let go_on = |drafting: bool| {
        let mut generator = generator(&low, &cpu);
        let (_, first) = generate(&mut generator, &low, &prompt, &options);
        generator.set_model(Arc::clone(&high));
        if drafting {
            generator.set_draft(Some(sequence(&low, &cpu)), DraftLength::Scheduled(vec![4]));
        }
        let said = [&prompt[..], &first.tokens].concat();
        let (_, then) = generate(&mut generator, &high, &said, &options);
        assert_eq!(then.reused_tokens, said.len() - 1);
        then.tokens
    };
    assert_eq!(go_on(true), go_on(false));
}
