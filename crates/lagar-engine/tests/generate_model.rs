//! Generation on real models: the fixtures, and the demo's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lagar_engine::chat::RenderOptions;
use lagar_engine::{
    ChatTemplate, GenerateOptions, GenerationConfig, Generator, Message, Model, ModelOptions,
    ModelSequence, StopReason,
};
use lagar_kernels::{Cpu, Isa};

fn open(path: &str) -> Arc<Model> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    Arc::new(Model::open(folder, None, &ModelOptions::default()).unwrap())
}

fn generator<'c>(model: &Arc<Model>, cpu: &'c Cpu) -> Generator<ModelSequence<'c>> {
    let sequence = ModelSequence::new(Arc::clone(model), cpu, model.spec().context);
    Generator::new(sequence.unwrap())
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    let cpu = Cpu::new(Isa::best(), 2);
    for name in ["llama2", "mistral", "qwen3"] {
        let model = open(&format!("tests/fixtures/{name}"));
        let file = format!("tests/fixtures/{name}/expected.json");
        let json = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let expected: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let ids =
            |key: &str| -> Vec<u32> { serde_json::from_value(expected[key].clone()).unwrap() };
        let options = GenerateOptions {
            max_tokens: Some(64),
            ..GenerateOptions::default()
        };
        let mut generator = generator(&model, &cpu);
        let prompt = ids("tokens");
        let mut generation = generator
            .generate(model.tokenizer(), &prompt, &options)
            .unwrap();
        while generation.next_piece().unwrap().is_some() {}
        assert_eq!(generation.finish().tokens, ids("greedy"), "{name}");
    }
}

#[test]
fn the_novels_model_goes_on_as_its_makers_say() {
    let model = open("../../assets/novels4m");
    let cpu = Cpu::new(Isa::best(), 2);
    let tokenizer = model.tokenizer();
    let config = GenerationConfig::of(&model).unwrap();
    assert_eq!(
        (config.eos.as_slice(), config.temperature),
        (&[1][..], Some(0.8))
    );
    let prompt = tokenizer.encode("It was a fine morning, and").unwrap();
    let options = GenerateOptions {
        max_tokens: Some(60),
        eos: &config.eos,
        ..GenerateOptions::default()
    };
    let mut generator = generator(&model, &cpu);
    let mut generation = generator.generate(tokenizer, &prompt, &options).unwrap();
    let mut text = String::new();
    while let Some(piece) = generation.next_piece().unwrap() {
        text += &piece;
    }
    assert_eq!(generation.finish().stop, StopReason::MaxTokens);
    let expected =
        " the captain was a little boy, and the boy was a little boy, and he was a little boy";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn a_chat_that_goes_on_says_the_same_as_one_that_starts_over() {
    let model = open("../../assets/novels4m");
    let cpu = Cpu::new(Isa::best(), 2);
    let template = ChatTemplate::of(&model).unwrap();
    assert!(template.is_plain());
    let render = RenderOptions {
        add_generation_prompt: true,
        ..RenderOptions::default()
    };
    let stop = ["\nUser:".to_string()];
    let options = GenerateOptions {
        max_tokens: Some(12),
        stop: &stop,
        ..GenerateOptions::default()
    };
    let answer = |generator: &mut Generator<ModelSequence<'_>>, messages: &[Message]| {
        let prompt = template
            .encode(model.tokenizer(), messages, &render)
            .unwrap();
        let mut generation = generator
            .generate(model.tokenizer(), &prompt, &options)
            .unwrap();
        let mut text = String::new();
        while let Some(piece) = generation.next_piece().unwrap() {
            text += &piece;
        }
        (text, generation.finish().reused_tokens)
    };
    let mut messages = vec![Message::new("user", "Where is the captain?")];
    let mut kept = generator(&model, &cpu);
    let (first, _) = answer(&mut kept, &messages);
    messages.push(Message::new("assistant", first));
    messages.push(Message::new("user", "And the boy?"));
    let (going_on, reused) = answer(&mut kept, &messages);
    let (over, nothing) = answer(&mut generator(&model, &cpu), &messages);
    assert_eq!((going_on, nothing), (over, 0));
    assert!(reused > 10, "{reused}");
}
