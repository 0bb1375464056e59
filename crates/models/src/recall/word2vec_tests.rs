use super::*;

/// Sentences over two sets of words that never meet.
fn corpus(sentences: u32) -> (Vec<u64>, Vec<u32>) {
    let mut draws = Draws::new(9, 9);
    let (mut offsets, mut word) = (vec![0u64], Vec::new());
    for s in 0..sentences {
        (0..10).for_each(|_| word.push(s % 2 * 10 + draws.below(10) as u32));
        offsets.push(word.len() as u64);
    }
    (offsets, word)
}

fn cosine(v: &WordVectors, a: usize, b: usize) -> f32 {
    let row = |w: usize| &v.input[w * v.dim..][..v.dim];
    dot(row(a), row(b)) / (dot(row(a), row(a)) * dot(row(b), row(b))).sqrt()
}

#[test]
fn words_that_occur_together_come_together_in_all_four_forms() {
    let (offsets, word) = corpus(1500);
    let corpus = Corpus { words: 21, offsets: &offsets, word: &word };
    for architecture in [Architecture::SkipGram, Architecture::Cbow] {
        for output in [Output::NegativeSampling, Output::HierarchicalSoftmax] {
            for shards in [1, 3] {
                let config = Word2VecConfig {
                    dim: 12,
                    architecture,
                    output,
                    shards,
                    sync_words: 500,
                    sample: 0.0,
                    lr: if architecture == Architecture::Cbow { 0.1 } else { 0.025 },
                    epochs: 8,
                    ..Word2VecConfig::default()
                };
                let v = config.fit(&corpus, 5, &mut |_| {}).unwrap();
                let pairs = |other: bool| {
                    let all = (0..20).flat_map(|a| (0..20).map(move |b| (a, b)));
                    let some: Vec<f32> = all
                        .filter(|(a, b)| a != b && (a / 10 != b / 10) == other)
                        .map(|(a, b)| cosine(&v, a, b))
                        .collect();
                    some.iter().sum::<f32>() / some.len() as f32
                };
                let (same, other) = (pairs(false), pairs(true));
                assert!(same > other + 0.5, "{config:?}: {same} {other}");
                assert!(v.input[20 * 12..].iter().all(|x| *x == 0.0), "a word that never occurs");
            }
        }
    }
}

#[test]
fn a_step_follows_the_gradient() {
    let mut draws = Draws::new(1, 1);
    let x: Vec<f32> = (0..8).map(|_| draws.normal() * 0.5).collect();
    let rows: Vec<f32> = (0..24).map(|_| draws.normal() * 0.5).collect();
    let targets = [(0u32, 1.0f32), (1, 0.0), (2, 0.0)];
    let loss = |x: &[f32], rows: &[f32]| -> f64 {
        let of = |(row, right): &(u32, f32)| {
            let score = f64::from(dot(x, &rows[*row as usize * 8..][..8]));
            (if *right > 0.5 { (-score).exp() } else { score.exp() }).ln_1p()
        };
        targets.iter().map(of).sum()
    };
    let (mut moved, mut slope) = (rows.clone(), vec![0.0; 8]);
    predict(&x, &mut moved, &targets, (1e-3, &Sigmoid::new()), &mut slope);
    for d in 0..8 {
        let at = |e: f32| {
            let mut x = x.clone();
            x[d] += e;
            loss(&x, &rows)
        };
        let want = -(at(1e-2) - at(-1e-2)) / 2e-2;
        assert!((want - f64::from(slope[d]) / 1e-3).abs() < 5e-3, "{want} {}", slope[d]);
    }
    for d in 0..24 {
        let at = |e: f32| {
            let mut rows = rows.clone();
            rows[d] += e;
            loss(&x, &rows)
        };
        let want = -(at(1e-2) - at(-1e-2)) / 2e-2;
        assert!((want - f64::from(moved[d] - rows[d]) / 1e-3).abs() < 5e-3);
    }
}

#[test]
fn frequent_words_are_thinned_out_as_the_paper_says() {
    let mut word = vec![0u32; 9_000];
    word.extend(vec![1u32; 1_000]);
    let corpus = Corpus { words: 2, offsets: &[0, 10_000], word: &word };
    let config = Word2VecConfig { sample: 0.01, ..Word2VecConfig::default() };
    let plan = Plan::new(&config, &corpus);
    let want = |f: f64| ((0.01 / f).sqrt() + 0.01 / f) as f32;
    assert!((plan.keep[0] - want(0.9)).abs() < 1e-6 && (plan.keep[1] - want(0.1)).abs() < 1e-6);
}

#[test]
fn threads_change_nothing_and_seeds_do() {
    let (offsets, word) = corpus(60);
    let corpus = Corpus { words: 20, offsets: &offsets, word: &word };
    let config =
        Word2VecConfig { dim: 6, shards: 3, sync_words: 40, epochs: 2, shuffle: true, ..Default::default() };
    let fit = |threads, seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| config.fit(&corpus, seed, &mut |_| {}).unwrap())
    };
    assert_eq!(fit(1, 7), fit(3, 7));
    assert_ne!(fit(1, 7), fit(1, 8));
}

#[test]
fn the_table_is_the_sigmoid() {
    let table = Sigmoid::new();
    for i in -900..900 {
        let x = i as f32 / 100.0;
        assert!((table.at(x) - 1.0 / (1.0 + (-x).exp())).abs() < 1e-3, "{x}");
    }
    assert!(table.at(f32::NAN).is_finite());
}

#[test]
fn parts_cover_all_sentences_once() {
    for shards in 1..9 {
        let parts = parts(&[0, 5, 5, 9, 30, 31, 40], shards);
        let all: Vec<usize> = parts.into_iter().flatten().collect();
        assert_eq!(all, (0..6).collect::<Vec<_>>());
    }
}

#[test]
fn wrong_options_and_sentences_are_refused() {
    let corpus = Corpus { words: 2, offsets: &[0, 2], word: &[0, 2] };
    assert!(Word2VecConfig::default().fit(&corpus, 0, &mut |_| {}).is_err());
    let corpus = Corpus { words: 2, offsets: &[0, 2], word: &[0, 1] };
    let of = |c: Word2VecConfig| c.fit(&corpus, 0, &mut |_| {}).unwrap_err().to_string();
    assert!(of(Word2VecConfig { window: 0, ..Default::default() }).contains("`window`"));
    assert!(of(Word2VecConfig { negatives: 0, ..Default::default() }).contains("`negatives`"));
    assert!(of(Word2VecConfig { min_lr: 1.0, ..Default::default() }).contains("`min_lr`"));
}
