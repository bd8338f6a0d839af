//! Properties of the forward pass: the same bits however it is computed, and what is refused.

mod pressed;
mod whole_model;

use std::path::Path;

use lagar_engine::{
    Activations, EngineError, KvFormat, Model, ModelOptions, NoObserver, Observer, SiteId,
};
use lagar_format::{Container, Limits};
use lagar_kernels::{Cpu, Isa};
use pressed::Recipe;
use whole_model::{fixture, logits, tokens};

/// Models of every kind: architecture, weights, activations, cache.
fn models(folder: &Path) -> Vec<(String, Model)> {
    let mut models = Vec::new();
    for name in ["llama2", "llama3", "mistral", "qwen2", "qwen3"] {
        let path = fixture(name);
        let dense = Model::open(&path, None, &ModelOptions::default()).unwrap();
        models.push((format!("{name}, dense"), dense));
        for format in [KvFormat::F16, KvFormat::Q8, KvFormat::Q4] {
            let options = ModelOptions::default().with_kv(format);
            let model = Model::open(&path, None, &options).unwrap();
            models.push((format!("{name}, dense, {format:?}"), model));
        }
        let recipe = Recipe {
            depths: vec![2, 3],
            ..Recipe::default()
        };
        let file = pressed::write(&path, &recipe, folder, name);
        let all_kinds = Recipe {
            with_all_kinds: true,
            ..Recipe::default()
        };
        let kinds = pressed::write(&path, &all_kinds, folder, &format!("{name} kinds"));
        for activations in [Activations::Int8, Activations::F32] {
            for (file, tier) in [(&file, "R"), (&file, "RG"), (&kinds, "R")] {
                let options = ModelOptions::default().with_activations(activations);
                let model = Model::open(file, Some(tier), &options).unwrap();
                models.push((format!("{file:?}, {tier}, {activations:?}"), model));
            }
        }
    }
    models
}

#[test]
fn logits_have_the_same_bits_for_every_chunk_thread_count_and_isa() {
    let folder = tempfile::tempdir().unwrap();
    let one = Cpu::new(Isa::best(), 1);
    let mut others = vec![Cpu::new(Isa::best(), 2), Cpu::new(Isa::best(), 3)];
    others.extend(Isa::available().into_iter().map(|isa| Cpu::new(isa, 2)));
    for (name, model) in models(folder.path()) {
        let tokens = tokens(70, model.spec().vocabulary);
        let expected = logits(&one, &model, &tokens, 70);
        for chunk in [1, 3, 64] {
            assert!(
                logits(&one, &model, &tokens, chunk) == expected,
                "{name}, chunks of {chunk}"
            );
        }
        for cpu in &others {
            let what = format!("{name}, {} with {} threads", cpu.isa(), cpu.threads());
            assert!(logits(cpu, &model, &tokens, 64) == expected, "{what}");
        }
    }
}

#[test]
fn sequences_of_a_batch_have_the_bits_that_each_has_alone() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = Cpu::new(Isa::best(), 2);
    for (name, model) in models(folder.path()) {
        let (vocabulary, mut sessions) = (model.spec().vocabulary, Vec::new());
        let tokens = tokens(80, vocabulary);
        // Sequences of different lengths, one of them empty.
        let lengths = [17, 0, 31, 1, 16];
        for (first, &len) in lengths.iter().enumerate() {
            let mut session = model.session(64).unwrap();
            let start = &tokens[first..first + len];
            let done = model.next_logits(&cpu, &mut session, start, &mut NoObserver);
            done.unwrap();
            sessions.push(session);
        }
        let next = &tokens[40..40 + lengths.len()];
        let mut logits = vec![0.0; lengths.len() * vocabulary];
        for _ in 0..2 {
            let mut all: Vec<_> = sessions.iter_mut().collect();
            let done = model.batch_logits(&cpu, &mut all, next, &mut logits);
            done.unwrap();
        }
        for (first, &len) in lengths.iter().enumerate() {
            let mut session = model.session(64).unwrap();
            let alone = [&tokens[first..first + len], &[next[first]; 2]].concat();
            let expected = model.next_logits(&cpu, &mut session, &alone, &mut NoObserver);
            let found = &logits[first * vocabulary..][..vocabulary];
            assert!(found == expected.unwrap(), "{name}, sequence {first}");
            assert_eq!(sessions[first].len(), len + 2);
        }
        let mut all: Vec<_> = sessions.iter_mut().collect();
        let outside = [next[0], next[1], vocabulary as u32, next[3], next[4]];
        let error = model.batch_logits(&cpu, &mut all, &outside, &mut logits);
        assert!(
            matches!(error, Err(EngineError::TokenOutOfRange { .. })),
            "{name}"
        );
        assert_eq!(sessions[0].len(), lengths[0] + 2);
    }
}

#[test]
fn a_sequence_goes_on_from_any_point_as_if_it_had_never_gone_further() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = Cpu::new(Isa::best(), 2);
    for (name, model) in models(folder.path()) {
        let tokens = tokens(40, model.spec().vocabulary);
        let mut session = model.session(64).unwrap();
        let run = |session: &mut _, tokens: &[u32]| -> Vec<f32> {
            model
                .next_logits(&cpu, session, tokens, &mut NoObserver)
                .unwrap()
                .to_vec()
        };
        let expected = run(&mut session, &tokens);
        for keep in [0, 1, 15, 16, 17, 39] {
            session.truncate(keep);
            assert_eq!(session.len(), keep);
            run(&mut session, &tokens[..5]);
            session.truncate(keep);
            let again = run(&mut session, &tokens[keep..]);
            assert!(again == expected, "{name}, from {keep}");
        }
    }
}

#[test]
fn a_pressed_model_computes_what_its_weights_amount_to() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = Cpu::new(Isa::best(), 2);
    for (with_empty_groups, with_all_kinds) in [(false, false), (true, false), (false, true)] {
        let recipe = Recipe {
            depths: vec![2, 2],
            with_empty_groups,
            with_all_kinds,
            config: None,
        };
        let path = pressed::write(&fixture("llama2"), &recipe, folder.path(), "file");
        for tier in ["R", "RG"] {
            let options = ModelOptions::default().with_activations(Activations::F32);
            let model = Model::open(&path, Some(tier), &options).unwrap();
            let dense = dense_copy(&cpu, &model, &fixture("llama2"));
            let tokens = tokens(20, model.spec().vocabulary);
            let (a, b) = (
                logits(&cpu, &model, &tokens, 64),
                logits(&cpu, &dense, &tokens, 64),
            );
            let pairs = a
                .iter()
                .zip(&b)
                .map(|(a, b)| (f32::from_bits(*a), f32::from_bits(*b)));
            let worst = pairs
                .clone()
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            let size = pairs.map(|(a, _)| a.abs()).fold(0.0, f32::max);
            assert!(worst <= 1e-4 * size.max(1.0), "{tier}: {worst} of {size}");
        }
    }
}

/// A dense model of the weights that another one computes with.
fn dense_copy(cpu: &Cpu, model: &Model, original: &Path) -> Model {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(original.join(name), folder.path().join(name)).unwrap();
    }
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for tensor in model.spec().tensors() {
        let rows = if tensor.shape.len() == 1 {
            1
        } else {
            tensor.shape[0]
        };
        let values = model.weight_rows(cpu, &tensor.name, 0..rows).unwrap();
        assert_eq!(values.len(), tensor.shape.iter().product::<usize>());
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        header.insert(
            tensor.name,
            serde_json::json!({
                "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, data.len()],
            }),
        );
    }
    let header = serde_json::to_vec(&header).unwrap();
    let length = (header.len() as u64).to_le_bytes();
    let bytes = [&length, &header[..], &data].concat();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    Model::open(folder.path(), None, &ModelOptions::default()).unwrap()
}

#[test]
fn rounding_activations_to_bytes_changes_little() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = Cpu::new(Isa::best(), 2);
    let path = pressed::write(
        &fixture("llama3"),
        &Recipe::default(),
        folder.path(),
        "file",
    );
    let tokens = tokens(40, 300);
    let [int8, f32] = [Activations::Int8, Activations::F32].map(|activations| {
        let options = ModelOptions::default().with_activations(activations);
        let model = Model::open(&path, None, &options).unwrap();
        logits(&cpu, &model, &tokens, 64)
    });
    assert_ne!(int8, f32, "the option has no effect");
    let pairs = int8
        .iter()
        .zip(&f32)
        .map(|(a, b)| (f32::from_bits(*a), f32::from_bits(*b)));
    let error: f32 = pairs.clone().map(|(a, b)| (a - b).powi(2)).sum();
    let size: f32 = pairs.map(|(_, b)| b.powi(2)).sum();
    assert!(
        (error / size).sqrt() < 0.1,
        "relative error {}",
        (error / size).sqrt()
    );
}

#[test]
fn smaller_caches_change_little_and_take_what_is_counted() {
    let cpu = Cpu::new(Isa::best(), 2);
    // The root mean square of the errors of logits, relative to that of logits.
    for (format, most) in [
        (KvFormat::F16, 1.5e-3),
        (KvFormat::Q8, 3e-2),
        (KvFormat::Q4, 0.3),
    ] {
        for name in ["llama2", "llama3", "mistral", "qwen2", "qwen3"] {
            let open = |format| {
                let options = ModelOptions::default().with_kv(format);
                Model::open(fixture(name), None, &options).unwrap()
            };
            let (exact, model) = (open(KvFormat::F32), open(format));
            assert_eq!(model.kv(), format);
            let tokens = tokens(60, model.spec().vocabulary);
            let pairs = logits(&cpu, &exact, &tokens, 60).into_iter();
            let pairs = pairs.zip(logits(&cpu, &model, &tokens, 60));
            let pairs = pairs.map(|(a, b)| (f32::from_bits(a), f32::from_bits(b)));
            let error: f32 = pairs.clone().map(|(a, b)| (a - b).powi(2)).sum();
            let size: f32 = pairs.map(|(a, _)| a.powi(2)).sum();
            let error = (error / size).sqrt();
            assert!(error > 0.0 && error < most, "{name}, {format:?}: {error}");

            let position = |format: KvFormat| -> usize {
                let blocks = model.spec().blocks.iter();
                let heads = blocks.map(|block| &block.attention);
                heads
                    .map(|a| a.kv_heads * format.bytes_of(a.head_dim))
                    .sum()
            };
            let context = model.spec().context.min(4096);
            let less = (position(KvFormat::F32) - position(format)) * context;
            assert_eq!(exact.memory_bytes() - model.memory_bytes(), less as u64);
        }
    }
}

#[test]
fn observers_see_the_input_of_every_site_once_for_each_token() {
    struct Seen(Vec<(SiteId, usize, usize)>);
    impl Observer for Seen {
        fn input(&mut self, site: SiteId, x: &[f32], n: usize) {
            assert!(x.iter().any(|value| *value != 0.0));
            self.0.push((site, x.len() / n, n));
        }
    }
    let cpu = Cpu::new(Isa::best(), 2);
    let model = Model::open(fixture("qwen3"), None, &ModelOptions::default()).unwrap();
    let mut seen = Seen(Vec::new());
    let mut session = model.session(64).unwrap();
    session.set_chunk(8);
    model
        .forward(&cpu, &mut session, &tokens(10, 200), &mut seen)
        .unwrap();
    let sites = model.spec().sites();
    let pass = |n| sites.iter().map(move |site| (site.id, site.width, n));
    assert_eq!(seen.0, pass(8).chain(pass(2)).collect::<Vec<_>>());
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_the_session_as_it_was() {
    let cpu = Cpu::new(Isa::best(), 1);
    let model = Model::open(fixture("llama2"), None, &ModelOptions::default()).unwrap();
    let mut session = model.session(8).unwrap();
    model
        .next_logits(&cpu, &mut session, &[1, 2, 3], &mut NoObserver)
        .unwrap();
    let error = model
        .forward(&cpu, &mut session, &[1; 6], &mut NoObserver)
        .unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::ContextExceeded {
                asked: 9,
                context: 8
            }
        ),
        "{error}"
    );
    let error = model
        .forward(&cpu, &mut session, &[1, 290], &mut NoObserver)
        .unwrap_err();
    let expected = matches!(
        error,
        EngineError::TokenOutOfRange {
            token: 290,
            position: 4,
            vocabulary: 290
        }
    );
    assert!(expected, "{error}");
    assert_eq!(session.len(), 3);
    assert!(model.session(257).is_err());
    assert!(
        model
            .next_logits(&cpu, &mut session, &[], &mut NoObserver)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn containers_that_do_not_fit_their_configuration_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let original = fixture("llama2");
    let recipe = Recipe::default();
    let path = pressed::write(&original, &recipe, folder.path(), "file");
    let message = Model::open(&path, Some("RG"), &ModelOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("RG") && message.contains("it holds R"),
        "{message}"
    );
    let message = Model::open(&original, Some("R"), &ModelOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("llama2") && message.contains("tier R"),
        "{message}"
    );

    for missing in ["model.layers.1.mlp.down_proj.weight", "model.norm.weight"] {
        let path = folder.path().join("missing");
        pressed::writer(&original, &recipe, |name| name != missing)
            .write(&path)
            .unwrap();
        let message = Model::open(&path, None, &ModelOptions::default())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains(missing) && message.contains("missing"),
            "{message}"
        );
    }

    // Tensors of one checkpoint, configuration of another.
    let config = std::fs::read_to_string(original.join("config.json")).unwrap();
    for (from, to, piece) in [
        (
            "\"intermediate_size\": 100",
            "\"intermediate_size\": 96",
            "[100, 48]",
        ),
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 1",
            "layers.1.",
        ),
        ("LlamaForCausalLM", "Qwen2ForCausalLM", "q_proj.bias"),
        (
            "\"vocab_size\": 290",
            "\"vocab_size\": \"290\"",
            "vocab_size",
        ),
    ] {
        let changed = config.replace(from, to);
        assert_ne!(changed, config);
        let recipe = Recipe {
            config: Some(changed),
            ..Recipe::default()
        };
        let path = pressed::write(&original, &recipe, folder.path(), "other");
        let message = Model::open(&path, None, &ModelOptions::default())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains(piece) && message.contains("other"),
            "{piece}: {message}"
        );
    }

    // Files cut off or damaged.
    let bytes = std::fs::read(&path).unwrap();
    for len in [bytes.len() - 1, bytes.len() / 2, 100, 8, 0] {
        let cut = folder.path().join("cut");
        std::fs::write(&cut, &bytes[..len]).unwrap();
        let message = Model::open(&cut, None, &ModelOptions::default())
            .unwrap_err()
            .to_string();
        assert!(message.contains("cut"), "{message}");
    }
    let mut flipped = bytes.clone();
    let last = flipped.len() - 100;
    flipped[last] ^= 1;
    let damaged = folder.path().join("damaged");
    std::fs::write(&damaged, &flipped).unwrap();
    assert!(Model::open(&damaged, None, &ModelOptions::default()).is_err());
    // Without its checksums it is still nothing that reads out of bounds.
    let container = Container::open(&damaged, &Limits::default()).unwrap();
    let model = Model::from_container(container, None, &ModelOptions::default()).unwrap();
    let mut session = model.session(4).unwrap();
    let cpu = Cpu::new(Isa::best(), 1);
    model
        .forward(&cpu, &mut session, &[1, 2, 3], &mut NoObserver)
        .unwrap();
}
