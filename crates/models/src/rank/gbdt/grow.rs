//! Boosting: derivatives are ours, trees are grown by `forust-ml` (histograms, leaf-wise, missing values either way).

use forust_ml::Matrix;
use forust_ml::binning::bin_matrix;
use forust_ml::constraints::ConstraintMap;
use forust_ml::data::JaggedMatrix;
use forust_ml::gradientbooster::GrowPolicy;
use forust_ml::sampler::SampleMethod;
use forust_ml::splitter::MissingImputerSplitter;

use super::Config;
use super::forest::{Forest, Node, Tree, add_scores};
use super::objective::Truth;
use crate::Error;

/// Rows with their labels.
pub(super) struct Sample<'a> {
    /// `[N, width]`, row-major; NaN is missing.
    pub(super) rows: &'a [f32],
    pub(super) width: usize,
    pub(super) truth: Truth<'a>,
}

impl Sample<'_> {
    fn len(&self) -> usize {
        self.rows.len() / self.width
    }
}

/// A grown forest and how well it does.
pub(super) struct Grown {
    pub(super) forest: Forest,
    /// What early stopping watched, at the end (of the best round, where there is a validation part).
    pub(super) badness: f64,
}

/// Training rows as the library wants them.
struct Binned {
    bins: Vec<u16>,
    cuts: JaggedMatrix<f64>,
}

/// Grows at most `cfg.trees` trees; with `valid`, those up to the round that does best there.
pub(super) fn grow(
    cfg: &Config,
    train: &Sample<'_>,
    valid: Option<&Sample<'_>>,
    seed: u64,
    progress: &dyn Fn(usize, f64),
) -> Result<Grown, Error> {
    let binned = bin(cfg, train)?;
    let base = cfg.objective.base(&train.truth);
    let mut forest = Forest { base, trees: Vec::new() };
    let mut scores = vec![base; train.len()];
    let mut valid_scores = vec![base; valid.map_or(0, Sample::len)];
    let mut best: Option<(f64, usize)> = None;
    for round in 0..cfg.trees {
        let derivatives = cfg.objective.derivatives(cfg, &scores, &train.truth);
        let mut draw = Draw(seed ^ (round as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let tree = fit_tree(cfg, train, &binned, &derivatives, &mut draw);
        let tree = [tree];
        add_scores(&tree, (train.rows, train.width), &mut scores);
        if let Some(valid) = valid {
            add_scores(&tree, (valid.rows, valid.width), &mut valid_scores);
        }
        let [tree] = tree;
        forest.trees.push(tree);
        let badness = match valid {
            Some(valid) => cfg.objective.badness(cfg, &valid_scores, &valid.truth),
            None => cfg.objective.badness(cfg, &scores, &train.truth),
        };
        progress(round + 1, badness);
        if !badness.is_finite() {
            return Err(Error::Config(format!(
                "model `gbdt`: the loss is {badness} after tree {}; lower learning_rate or raise l2",
                round + 1
            )));
        }
        if valid.is_none() || best.is_none_or(|(least, _)| badness < least) {
            best = Some((badness, round + 1));
        } else if best.is_some_and(|(_, at)| cfg.patience > 0 && round + 1 - at >= cfg.patience) {
            break;
        }
    }
    let (badness, rounds) = best.unwrap_or_default();
    forest.trees.truncate(rounds);
    Ok(Grown { forest, badness })
}

/// Cuts each column into bins. The library's own copy of the values is gone when this returns.
fn bin(cfg: &Config, train: &Sample<'_>) -> Result<Binned, Error> {
    let n = train.len();
    let mut columns = vec![0.0f64; train.rows.len()];
    for (row, values) in train.rows.chunks_exact(train.width).enumerate() {
        for (column, &value) in values.iter().enumerate() {
            columns[column * n + row] = f64::from(value);
        }
    }
    let data = Matrix::new(&columns, n, train.width);
    let weights = vec![1.0; n];
    let binned = bin_matrix(&data, &weights, cfg.bins, f64::NAN, true)
        .map_err(|e| Error::Config(format!("model `gbdt`: the rows cannot be binned: {e}")))?;
    Ok(Binned { bins: binned.binned_data, cuts: binned.cuts })
}

fn fit_tree(
    cfg: &Config,
    train: &Sample<'_>,
    binned: &Binned,
    (gradients, hessians): &(Vec<f32>, Vec<f32>),
    draw: &mut Draw,
) -> Tree {
    let rows = draw.share(train.len(), cfg.row_fraction);
    let columns = draw.share(train.width, cfg.feature_fraction);
    let total: f64 = rows.iter().map(|&r| f64::from(hessians[r])).sum();
    // As LightGBM, which counts the rows of a leaf by their share of the Hessian.
    let least = f64::from(cfg.min_rows) * total / rows.len().max(1) as f64;
    let splitter = MissingImputerSplitter::new(
        cfg.l1,
        cfg.l2,
        0.0,
        cfg.min_gain,
        cfg.min_hessian.max(least as f32),
        cfg.learning_rate,
        false,
        ConstraintMap::new(),
    );
    let method = if rows.len() < train.len() { SampleMethod::Random } else { SampleMethod::None };
    let bins = Matrix::new(&binned.bins, train.len(), train.width);
    let mut tree = forust_ml::tree::Tree::new();
    tree.fit(
        &bins,
        rows,
        &columns,
        &binned.cuts,
        gradients,
        hessians,
        &splitter,
        cfg.leaves,
        cfg.depth.unwrap_or(usize::MAX - 1),
        true,
        &method,
        &GrowPolicy::LossGuide,
    );
    flat(&tree)
}

/// The library's tree, flat. Rows hold f32, so a threshold rounded up to the next f32 sends each where it went.
fn flat(tree: &forust_ml::tree::Tree) -> Tree {
    let finite = |value: f32| if value.is_finite() { value } else { 0.0 };
    tree.nodes
        .iter()
        .map(|n| {
            if n.is_leaf {
                return Node::leaf(finite(n.weight_value));
            }
            let children = (n.left_child as u32, n.right_child as u32);
            let missing_left = n.missing_node == n.left_child;
            Node::split(
                n.split_feature as u32,
                rounded_up(n.split_value),
                children,
                missing_left,
                n.split_gain,
            )
        })
        .collect()
}

/// The least f32 that is not below `x`.
fn rounded_up(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) < x { near.next_up() } else { near }
}

/// SplitMix64 (Steele et al. 2014).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// About this share of 0..n, at least one, rising: selection sampling (Knuth, Algorithm S).
    fn share(&mut self, n: usize, share: f32) -> Vec<usize> {
        let wanted = ((n as f64 * f64::from(share)).round() as usize).clamp(1.min(n), n);
        let mut out = Vec::with_capacity(wanted);
        for at in 0..n {
            let (left, need) = ((n - at) as u64, (wanted - out.len()) as u64);
            if self.next() % left < need {
                out.push(at);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::objective::Objective;
    use super::*;

    fn rows(draw: &mut Draw, n: usize, width: usize) -> Vec<f32> {
        let mut value = || match draw.next() % 8 {
            0 => f32::NAN,
            x => x as f32 * 0.1 + (draw.next() % 1000) as f32 * 1e-3,
        };
        (0..n * width).map(|_| value()).collect()
    }

    #[test]
    fn flat_trees_predict_as_the_library_does() {
        let (n, width, mut draw) = (700, 5, Draw(3));
        let x = rows(&mut draw, n, width);
        let y: Vec<f32> = x
            .chunks(width)
            .map(|r| f32::from(r[0].is_nan() || r[1] * r[2] > 0.5) + if r[3] > 0.9 { 2.0 } else { 0.0 })
            .collect();
        let cfg = Config { objective: Objective::Regression, min_rows: 3.0, ..Config::default() };
        let truth = Truth { labels: &y, weights: &[], ends: &[n] };
        let sample = Sample { rows: &x, width, truth };
        let binned = bin(&cfg, &sample).unwrap();
        let splitter = MissingImputerSplitter::new(0.0, 1.0, 0.0, 0.0, 3.0, 0.3, false, ConstraintMap::new());
        let data = Matrix::new(&binned.bins, n, width);
        let test = rows(&mut draw, 500, width);
        let mut splits = 0;
        for round in 0..10 {
            let derivatives =
                cfg.objective.derivatives(&cfg, &vec![0.1 * f64::from(round); n], &sample.truth);
            let mut tree = forust_ml::tree::Tree::new();
            tree.fit(
                &data,
                (0..n).collect(),
                &[0, 1, 2, 3, 4],
                &binned.cuts,
                &derivatives.0,
                &derivatives.1,
                &splitter,
                5 + 3 * round as usize,
                usize::MAX - 1,
                false,
                &SampleMethod::None,
                &GrowPolicy::LossGuide,
            );
            let ours = flat(&tree);
            splits += ours.len() / 2;
            for row in test.chunks(width).chain(x.chunks(width)) {
                let wide: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
                let theirs = tree.predict_row_from_row_slice(&wide, &f64::NAN);
                assert!((theirs - f64::from(super::super::forest::walk(&ours, row))).abs() < 1e-6);
            }
        }
        assert!(splits > 100, "the trees have only {splits} splits");
    }

    #[test]
    fn more_trees_fit_better_and_early_stopping_keeps_the_best_round() {
        let (n, width, mut draw) = (600, 4, Draw(9));
        let x = rows(&mut draw, n, width);
        let y: Vec<f32> = x
            .chunks(width)
            .map(|r| f32::from((r[0] > 0.5) ^ (r[1] > 0.6) ^ (draw.next() % 5 == 0)))
            .collect();
        let cfg = Config { trees: 200, patience: 20, learning_rate: 0.3, min_rows: 5.0, ..Config::default() };
        let half = n / 2;
        let sample = |span: std::ops::Range<usize>, ends: &'static [usize]| Sample {
            rows: &x[span.start * width..span.end * width],
            width,
            truth: Truth { labels: &y[span], weights: &[], ends },
        };
        let (train, valid) = (sample(0..half, &[300]), sample(half..n, &[300]));
        let seen = std::cell::RefCell::new(Vec::new());
        let grown = grow(&cfg, &train, Some(&valid), 1, &|_, bad| seen.borrow_mut().push(bad)).unwrap();
        let seen = seen.into_inner();
        let best = seen.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(seen.len() < 200 && grown.badness == best && best < seen[0]);
        assert_eq!(seen[grown.forest.trees.len() - 1], best);
        let again = cfg.objective.badness(&cfg, &grown.forest.scores(valid.rows, width), &valid.truth);
        assert!((again - best).abs() < 1e-9);
        let alone = grow(&cfg, &train, None, 1, &|_, _| ()).unwrap();
        assert_eq!(alone.forest.trees.len(), 200);
        assert!(alone.badness < 0.1, "200 trees fit their own rows: {}", alone.badness);
    }

    #[test]
    fn shares_are_drawn_without_repeats() {
        let mut draw = Draw(5);
        for (n, share, wanted) in [(100, 0.9, 90), (10, 1.0, 10), (3, 0.01, 1), (1, 0.5, 1)] {
            let got = draw.share(n, share);
            assert_eq!(got.len(), wanted);
            assert!(got.windows(2).all(|w| w[0] < w[1]) && got.iter().all(|&at| at < n));
        }
    }
}
