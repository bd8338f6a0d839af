//! Several models beside one reference.

use lagar_engine::{Model, ModelOptions};
use lagar_press::{EvaluationOptions, Silent, evaluate, evaluate_all};
use tempfile::TempDir;

use crate::support::{cpu, evaluation_text, fixture, press_quietly, quick};

#[test]
fn models_measured_together_are_as_measured_alone() {
    let folder = TempDir::new().unwrap();
    let checkpoint = fixture("llama3");
    let original = Model::open(&checkpoint, None, &ModelOptions::default()).unwrap();
    let pressed: Vec<Model> = [2, 4]
        .into_iter()
        .map(|bits| {
            let file = folder.path().join(format!("{bits}.lagar"));
            press_quietly(&checkpoint, &file, quick(bits));
            Model::open(&file, None, &ModelOptions::default()).unwrap()
        })
        .collect();
    let text = evaluation_text();
    let options = EvaluationOptions::new(None, Some(500));
    let cpu = cpu(2);
    let models: Vec<&Model> = pressed.iter().collect();
    let all = evaluate_all(&cpu, &models, Some(&original), &text, &options, &Silent).unwrap();
    for (model, together) in models.iter().zip(&all.models) {
        let alone = evaluate(&cpu, model, Some(&original), &text, &options, &Silent).unwrap();
        assert_eq!(alone, *together);
    }
    // The reference's own row is what it would be as a model.
    let own = evaluate(&cpu, &original, Some(&original), &text, &options, &Silent).unwrap();
    let reference = all.reference.unwrap();
    assert_eq!(reference.nll_per_token, own.nll_per_token);
    assert_eq!(reference.token_accuracy, own.token_accuracy);
    let compared = reference.reference.unwrap();
    assert_eq!((compared.kl_mean, compared.top1_agreement), (0.0, 1.0));
    let alone = evaluate_all(&cpu, &models, None, &text, &options, &Silent).unwrap();
    assert!(alone.reference.is_none());
    assert_eq!(alone.models[0].nll_per_token, all.models[0].nll_per_token);
}
