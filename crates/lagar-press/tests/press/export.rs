//! An exported checkpoint computes what the pressed file computes.

use lagar_engine::{Activations, Model, ModelOptions, NoObserver};
use lagar_press::{ExportDtype, Silent, export};

use crate::support::{cpu, fixture, novels, press_quietly, quick};

fn logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let cpu = cpu(2);
    let mut session = model.session(tokens.len()).unwrap();
    let hidden = model
        .forward(&cpu, &mut session, tokens, &mut NoObserver)
        .unwrap()
        .to_vec();
    let mut logits = vec![0.0; tokens.len() * model.spec().vocabulary];
    model
        .logits(&cpu, &hidden, tokens.len(), &mut logits)
        .unwrap();
    logits
}

#[test]
fn logits_of_the_file_with_f32_activations_are_those_of_the_exported_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    for (i, checkpoint) in [
        novels(),
        fixture("qwen2"),
        fixture("qwen3"),
        fixture("mistral"),
        fixture("llama3"),
    ]
    .iter()
    .enumerate()
    {
        let file = folder.path().join(format!("{i}.lagar"));
        press_quietly(checkpoint, &file, quick(3));
        let pressed = Model::open(
            &file,
            None,
            &ModelOptions::default().with_activations(Activations::F32),
        )
        .unwrap();
        let exported = folder.path().join(format!("{i}-exported"));
        export(&cpu(2), &pressed, &exported, ExportDtype::F32, &Silent).unwrap();
        let dense = Model::open(&exported, None, &ModelOptions::default()).unwrap();
        let tokens: Vec<u32> = (3..40).map(|i| i * 5 % 250).collect();
        let worst = logits(&pressed, &tokens)
            .iter()
            .zip(logits(&dense, &tokens))
            .fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(worst <= 1e-3, "{}: {worst}", checkpoint.display());
        assert!(
            export(&cpu(2), &pressed, &exported, ExportDtype::F32, &Silent).is_err(),
            "not twice"
        );
    }
}
