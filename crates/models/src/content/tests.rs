use super::*;
use crate::recall::factors::Factors;

const TOPICS: [[&str; 5]; 4] = [
    ["shampoo", "hair", "conditioner", "scalp", "repair"],
    ["lipstick", "lip", "gloss", "matte", "rouge"],
    ["perfume", "eau", "spray", "rose", "oud"],
    ["nail", "polish", "lacquer", "gel", "topcoat"],
];

/// Texts of four topics, three words each.
fn texts() -> Vec<String> {
    (0..120)
        .map(|i| {
            let words = TOPICS[i % 4];
            let word = |k: usize| words[(i / 4 * (k + 1) + k) % 5];
            format!("{} {} {}", word(0), word(1), word(2))
        })
        .collect()
}

fn lsa(dim: usize) -> (TextEncoder, Vec<String>) {
    let texts = texts();
    let seen: Vec<&str> = texts.iter().map(String::as_str).collect();
    let config =
        TextConfig { tfidf: Some(TfidfConfig { dim, ..TfidfConfig::default() }), ..TextConfig::default() };
    (config.encoder(&seen).unwrap(), texts)
}

fn vector(encoder: &TextEncoder, text: &str) -> Vec<f32> {
    let mut out = vec![0.0; encoder.dim()];
    encoder.encode(text, &mut out);
    out
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[test]
fn texts_that_share_no_word_are_near_where_others_connect_them() {
    let (encoder, _) = lsa(4);
    let nail = vector(&encoder, "nail lacquer");
    assert!(cosine(&nail, &vector(&encoder, "gel topcoat")) > 0.9);
    assert!(cosine(&nail, &vector(&encoder, "matte rouge")) < 0.1);
    assert!((cosine(&nail, &nail) - 1.0).abs() < 1e-5);
}

#[test]
fn a_vector_does_not_depend_on_the_texts_beside_it() {
    let (encoder, texts) = lsa(8);
    let mut beside: Vec<&str> = texts.iter().map(String::as_str).collect();
    let long = "shampoo hair ".repeat(400);
    beside.push(&long);
    let all = encoder.encode_all(&beside);
    for (text, row) in beside.iter().zip(all.chunks(8)) {
        assert_eq!(vector(&encoder, text), row);
    }
    assert_eq!(vector(&encoder, "hair repair"), vector(&encoder, "  hair, repair   . unheard"));
}

#[test]
fn the_whole_space_keeps_the_cosines_of_the_terms() {
    // 20 terms: with so many directions nothing is lost.
    let (encoder, texts) = lsa(20);
    let TextEncoder::Lsa(lsa) = &encoder else { panic!("no LSA") };
    let terms = |text: &str| {
        let mut dense = vec![0.0f32; lsa.terms.terms()];
        lsa.terms.weigh(text).into_iter().for_each(|(c, w)| dense[c as usize] = w);
        dense
    };
    for (a, b) in texts.iter().zip(texts.iter().skip(3)).take(40) {
        let (reduced, whole) =
            (cosine(&vector(&encoder, a), &vector(&encoder, b)), cosine(&terms(a), &terms(b)));
        assert!((reduced - whole).abs() < 1e-4, "{a} / {b}: {reduced} for {whole}");
    }
}

#[test]
fn an_item_without_any_action_is_found_by_its_text() {
    let (encoder, mut texts) = lsa(8);
    texts.push("gel polish topcoat".into());
    texts.push(String::new());
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let model = encoder.factors(&texts);
    let user = model.user_vector(&[(3, 1.0), (7, 1.0)]);
    let best = model.recommend(&user, 31, &|item| item != 3 && item != 7);
    assert!(best.iter().any(|x| x.0 == 120), "{best:?}");
    let mut scores = vec![9.0; texts.len()];
    model.score_into(&user, &mut scores);
    assert_eq!(scores[121], 0.0, "an item without a text is like none");
    assert!(!encoder.encode("", &mut [0.0; 8]));
}

#[test]
fn options_are_checked() {
    let of = |text: &str| ContentConfig::of(&toml::from_str(&format!("name = \"content\"\n{text}")).unwrap());
    let fault = |text: &str| of(text).unwrap_err().to_string();
    assert!(fault("").contains("`texts`"));
    assert!(fault("texts = [\"t\"]\ndecay = 0.0").contains("decay"));
    assert!(fault("texts = [\"t\"]\nfolder = \"x\"\n[tfidf]\ndim = 3").contains("exclude"));
    assert!(fault("texts = [\"t\"]\n[tfidf]\ndim = 0").contains("dim"));
    assert!(fault("texts = [\"t\"]\n[tfidf]\nsubliner = true").contains("sublinear"));
    assert!(fault("txts = [\"t\"]").contains("texts"));
    let config = of("texts = [\"t\"]\ndecay = 0.5\nmax_history = 2").unwrap();
    assert_eq!(config.weighed(&[7, 8, 9]), [(9, 1.0), (8, 0.5)]);
}
