//! Chat templates, against what Hugging Face `transformers` renders.

use std::path::Path;

use lagar_engine::chat::{CalendarTime, ChatTemplate, Message, RenderOptions};
use lagar_engine::{EngineError, TokenizerConfig};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    messages: Vec<Message>,
    add_generation_prompt: bool,
    text: Option<String>,
    error: Option<String>,
}

fn fixture(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chat_templates");
    std::fs::read_to_string(folder.join(file)).unwrap()
}

fn config() -> TokenizerConfig {
    let json = br#"{"bos_token": "<s>", "eos_token": {"content": "</s>"}}"#;
    TokenizerConfig::from_json("tokenizer_config.json", json).unwrap()
}

fn options(add_generation_prompt: bool) -> RenderOptions {
    RenderOptions {
        add_generation_prompt,
        // 2024-07-26 09:05, as in the script that wrote the fixtures.
        now: Some(CalendarTime::from_unix_seconds(1_721_984_700)),
        ..RenderOptions::default()
    }
}

fn hello() -> [Message; 1] {
    [Message::new("user", "Hello")]
}

#[track_caller]
fn check(name: &str) {
    let template = ChatTemplate::new(&fixture(&format!("{name}.jinja")), &config()).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&fixture(&format!("{name}.json"))).unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let rendered = template.render(&case.messages, &options(case.add_generation_prompt));
        match (case.text, case.error) {
            (Some(text), None) => assert_eq!(rendered.unwrap(), text),
            (None, Some(message)) => {
                let error = rendered.unwrap_err();
                assert!(matches!(error, EngineError::ChatTemplate { .. }));
                assert!(
                    error.to_string().contains(&message),
                    "{error} lacks {message}"
                );
            }
            _ => panic!("a case has either a text or an error"),
        }
    }
}

#[test]
fn llama2() {
    check("llama2");
}

#[test]
fn llama3() {
    check("llama3");
}

#[test]
fn mistral() {
    check("mistral");
}

#[test]
fn qwen() {
    check("qwen");
}

#[test]
fn qwen3() {
    check("qwen3");
}

#[test]
fn phi() {
    check("phi");
}

#[test]
fn gemma() {
    check("gemma");
}

#[test]
fn what_else_templates_use() {
    check("features");
}

#[test]
fn without_a_clock_templates_see_no_strftime() {
    let template = ChatTemplate::new(&fixture("llama3.jinja"), &config()).unwrap();
    let text = template
        .render(&hello(), &RenderOptions::default())
        .unwrap();
    assert!(text.contains("Today Date: 01 Jan 2024"), "{text}");
}

#[test]
fn variables_reach_the_template() {
    let template = ChatTemplate::new(&fixture("qwen3.jinja"), &config()).unwrap();
    let mut options = options(true);
    options
        .variables
        .insert("enable_thinking".into(), false.into());
    let text = template
        .render(&[Message::new("user", "Hi")], &options)
        .unwrap();
    assert_eq!(
        text,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    );
}

#[test]
fn a_checkpoint_without_a_template_gets_the_plain_one() {
    let template = ChatTemplate::from_checkpoint(None, &config()).unwrap();
    assert!(template.is_plain());
    let messages = [
        Message::new("system", "Two people talk.\n"),
        Message::new("user", "Hello"),
        Message::new("assistant", " Good day "),
        Message::new("user", "Bye"),
    ];
    assert_eq!(
        template.render(&messages, &options(true)).unwrap(),
        "Two people talk.\nUser: Hello\nAssistant: Good day\nUser: Bye\nAssistant:"
    );
    assert_eq!(
        template.render(&messages[1..2], &options(false)).unwrap(),
        "User: Hello\n"
    );
}

#[test]
fn the_jinja_file_goes_before_the_configuration() {
    let json = br#"{"chat_template": [{"name": "tool_use", "template": "T"},
                                      {"name": "default", "template": "D"}]}"#;
    let config = TokenizerConfig::from_json("c", json).unwrap();
    let render = |jinja| {
        let template = ChatTemplate::from_checkpoint(jinja, &config).unwrap();
        assert!(!template.is_plain());
        template.render(&hello(), &options(false)).unwrap()
    };
    assert_eq!(render(Some("J")), "J");
    assert_eq!(render(None), "D");
}

#[test]
fn broken_templates_are_refused_with_the_line() {
    let error = ChatTemplate::new("a\n{% for %}", &config())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("chat template: ") && error.contains("line 2"),
        "{error}"
    );
    for source in [
        "{{ messages[0].role.x.y }}",
        "{{ 'a' | nonesuch }}",
        "{{ f() }}",
    ] {
        let rendered = ChatTemplate::new(source, &config())
            .and_then(|template| template.render(&[Message::new("user", "")], &options(false)));
        assert!(
            matches!(rendered, Err(EngineError::ChatTemplate { .. })),
            "{source}"
        );
    }
}

#[test]
fn what_cannot_be_rendered_is_refused() {
    let template = ChatTemplate::new("fine", &config()).unwrap();
    let error = template
        .render(&[], &options(false))
        .unwrap_err()
        .to_string();
    assert!(error.contains("no message"), "{error}");
    // The template engine panics here.
    let template = ChatTemplate::new("{{ messages[1:][::-1] }}", &config()).unwrap();
    let error = template
        .render(&hello(), &options(false))
        .unwrap_err()
        .to_string();
    assert!(error.contains("crashed"), "{error}");
}

#[test]
fn no_template_runs_for_ever() {
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    let template = ChatTemplate::new(endless, &config()).unwrap();
    assert!(template.render(&hello(), &options(false)).is_err());
}
