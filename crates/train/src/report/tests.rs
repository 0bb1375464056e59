use super::*;
use crate::metrics::Scored;
use crate::record::PartRecord;
use crate::{Evaluation, TrainConfig};
use millstream_data::leakage::{Finding, Leak};
use millstream_models::ModelConfig;
use std::path::Path;

fn run(name: &str, model: &str, seed: u64, shift: f32) -> NamedRun {
    let training = TrainConfig { seed, ..TrainConfig::default() };
    let tasks = ["click".to_owned()];
    let mut record = RunRecord::new(&ModelConfig::named(model), &training, &tasks, Path::new("prepared"));
    let mut scored = Scored::of_logits();
    for i in 0..400u32 {
        let label = f32::from(u8::from(i % 3 == 0));
        scored.push(&[((i * 37 % 101) as f32 - 50.0) / 25.0 + shift * label], &[label], &[i % 40], &[]);
    }
    record.parts.insert("test".into(), PartRecord::of_scores(&tasks, &[scored], "all rows"));
    let metrics: Metrics = [("auc".to_owned(), 0.5 + f64::from(shift) / 10.0)].into();
    record.evaluations = vec![Evaluation { epoch: 0, step: 7, loss: 0.6, metrics }];
    record.best = record.evaluations.last().cloned();
    (record.rows, record.train_seconds) = (1000, 2.0);
    NamedRun { name: name.into(), record, leakage: Err("the prepared data is gone".into()) }
}

fn two() -> Report {
    let mut leaky = run("b & c", "dcn_v2", 2, 2.0);
    let finding = Finding {
        kind: Leak::LabelCopy,
        column: Some("clicked".into()),
        figure: 1.0,
        reason: "it is the label".into(),
        advice: "leave it out".into(),
    };
    leaky.leakage = Ok(Leakage { findings: vec![finding], rows: 9, ..Leakage::default() });
    Report { runs: vec![run("a", "deepfm", 1, 1.0), leaky] }
}

#[test]
fn only_options_that_differ_are_shown() {
    let report = two();
    let differing = report.differing();
    let keys: Vec<&str> = differing.iter().map(|d| d.0.as_str()).collect();
    assert_eq!(keys, ["model.name", "training.seed"]);
    assert_eq!(differing[1].1, [Value::from(1), Value::from(2)]);
    assert!(Report { runs: vec![run("a", "deepfm", 1, 1.0)] }.differing().is_empty());
}

#[test]
fn the_best_of_each_figure_is_known_and_a_tie_has_none() {
    let figures = two().figures();
    let of = |part: &str, key: &str| figures.iter().find(|f| f.part == part && f.key == key).unwrap();
    assert_eq!(of("test", "auc").best, Some(1));
    assert_eq!(of("test", "ne").best, Some(1), "less is better");
    assert_eq!(of("test", "calibration").best, None);
    assert_eq!(of("valid", "auc").values, [Some(0.6), Some(0.7)]);
    assert_eq!(best_of("auc", &[Some(0.5), Some(0.5)]), None);
    assert_eq!(best_of("auc", &[Some(0.5), None]), None);
}

#[test]
fn auc_gauc_sample_space_and_leaks_stand_side_by_side() {
    let (header, rows) = two().trust_table();
    assert_eq!(header, ["what to trust", "a", "b & c"]);
    let row = |name: &str| rows.iter().find(|r| r[0] == name).unwrap().clone();
    assert_eq!(row("test rows")[1], "400");
    assert_eq!(row("test positive")[1], "33.50 %");
    assert_ne!(row("test auc")[1], row("test gauc")[1]);
    assert_eq!(row("leakage")[1], "not checked: the prepared data is gone");
    assert_eq!(row("leakage")[2], "FOUND: clicked (label_copy)");
    assert!(two().leak_notes()[0].contains("it is the label; leave it out"));
}

#[test]
fn the_page_overlays_all_runs_and_the_summary_is_json() {
    let html = two().html();
    for title in
        ["ROC, test", "Precision and recall, test", "Calibration by tenth", "Training loss", "Validation auc"]
    {
        assert!(html.contains(title), "{title}");
    }
    assert_eq!(html.matches("b &amp; c (AUC").count(), 4);
    assert!(!html.contains("<script") && !html.contains("NaN"));
    let json = serde_json::to_value(two().summary()).unwrap();
    assert_eq!(json["differs"]["training.seed"], serde_json::json!([1, 2]));
    assert_eq!(json["runs"][0]["best_epoch"], 1);
    assert_eq!(json["runs"][1]["leakage"]["findings"][0]["kind"], "label_copy");
    assert_eq!(json["runs"][0]["parts"]["test"]["sample"]["rows"], 400);
}
