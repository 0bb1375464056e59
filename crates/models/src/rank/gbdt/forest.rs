//! Flat trees: kept among a model's weights, walked without any library.

use millstream_nn::{Init, ParamId, Params, Pass};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Error;

/// Rows walked together: their values stay in the second-level cache while one tree after another passes.
const BLOCK_ROWS: usize = 64;
const LEAF: u32 = u32::MAX;
const MISSING_LEFT: u32 = 1 << 31;

/// One node: 20 bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Node {
    /// The column compared, or [`LEAF`].
    feature: u32,
    /// Values below go left; of a leaf, what it adds.
    threshold: f32,
    left: u32,
    /// With [`MISSING_LEFT`] where NaN goes left; it goes right otherwise.
    right: u32,
    /// Loss that the split saved.
    gain: f32,
}

impl Node {
    /// A split on `feature`, whose children have these places in the tree.
    pub(super) fn split(
        feature: u32,
        threshold: f32,
        (left, right): (u32, u32),
        missing_left: bool,
        gain: f32,
    ) -> Self {
        let right = right | if missing_left { MISSING_LEFT } else { 0 };
        Self { feature, threshold, left, right, gain }
    }

    /// A leaf.
    pub(super) fn leaf(value: f32) -> Self {
        Self { feature: LEAF, threshold: value, left: 0, right: 0, gain: 0.0 }
    }
}

/// One tree, its root first.
pub(super) type Tree = Vec<Node>;

/// What one tree adds to the score of a row.
#[inline]
pub(super) fn walk(tree: &[Node], row: &[f32]) -> f32 {
    let mut node = &tree[0];
    while node.feature != LEAF {
        let value = row[node.feature as usize];
        let left = if value.is_nan() { node.right & MISSING_LEFT != 0 } else { value < node.threshold };
        node = &tree[if left { node.left } else { node.right & !MISSING_LEFT } as usize];
    }
    node.threshold
}

/// Adds the sums of these trees to `scores` `[N]`, for rows `[N, width]`.
pub(super) fn add_scores(trees: &[Tree], (rows, width): (&[f32], usize), scores: &mut [f64]) {
    let blocks = scores.par_chunks_mut(BLOCK_ROWS).zip(rows.par_chunks(BLOCK_ROWS * width));
    blocks.for_each(|(scores, rows)| {
        for tree in trees {
            for (score, row) in scores.iter_mut().zip(rows.chunks_exact(width)) {
                *score += f64::from(walk(tree, row));
            }
        }
    });
}

/// Where the forests of all tasks lie among a model's weights: each array is `[T, trees, nodes]`, node n of a tree
/// being a split of `feature` (−1: a leaf of `value`) at `value`, with children `left` and `right` and `missing`
/// (1: NaN goes left).
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    feature: ParamId,
    value: ParamId,
    left: ParamId,
    right: ParamId,
    missing: ParamId,
    gain: ParamId,
    /// `[T]`: trees in use.
    used: ParamId,
    /// `[T]`: score before the first tree.
    base: ParamId,
    tasks: usize,
    trees: usize,
    nodes: usize,
}

impl Layout {
    /// Asks for the arrays of `tasks` forests of at most `trees` trees of at most `leaves` leaves.
    pub(super) fn new(params: &mut Params, tasks: usize, trees: usize, leaves: usize) -> Result<Self, Error> {
        let nodes = 2 * leaves - 1;
        let mut array =
            |name: &str| params.statistic(&format!("gbdt.{name}"), &[tasks, trees, nodes], Init::Zeros);
        let (feature, value, left) = (array("feature")?, array("value")?, array("left")?);
        let (right, missing, gain) = (array("right")?, array("missing")?, array("gain")?);
        let used = params.statistic("gbdt.used", &[tasks], Init::Zeros)?;
        let base = params.statistic("gbdt.base", &[tasks], Init::Zeros)?;
        Ok(Self { feature, value, left, right, missing, gain, used, base, tasks, trees, nodes })
    }

    /// Puts a task's forest into the arrays.
    pub(super) fn write(&self, params: &mut Params, task: usize, forest: &Forest) {
        let slots = self.trees * self.nodes;
        let flat = |of: fn(&Node) -> f32| {
            let mut out = vec![0.0; slots];
            for (tree, out) in forest.trees.iter().zip(out.chunks_exact_mut(self.nodes)) {
                tree.iter().zip(out).for_each(|(node, slot)| *slot = of(node));
            }
            out
        };
        type Part = (ParamId, fn(&Node) -> f32);
        let arrays: [Part; 6] = [
            (self.feature, |n| if n.feature == LEAF { -1.0 } else { n.feature as f32 }),
            (self.value, |n| n.threshold),
            (self.left, |n| n.left as f32),
            (self.right, |n| (n.right & !MISSING_LEFT) as f32),
            (self.missing, |n| f32::from(n.right & MISSING_LEFT != 0)),
            (self.gain, |n| n.gain),
        ];
        for (id, of) in arrays {
            params.values_mut(id)[task * slots..][..slots].copy_from_slice(&flat(of));
        }
        params.values_mut(self.used)[task] = forest.trees.len() as f32;
        params.values_mut(self.base)[task] = forest.base as f32;
    }

    /// The forests, as a pass sees them: taken from `read` if that holds them, else left there for the next pass.
    pub(super) fn in_pass(&self, pass: &Pass, read: &Read) -> Arc<Vec<Forest>> {
        let stamps = self.ids().map(|id| pass.stamp(id));
        let mut read = read.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some((of, forests)) if *of == stamps => forests.clone(),
            _ => {
                let tensors = self.ids().map(|id| pass.param(id));
                let forests = Arc::new(self.read(tensors.each_ref().map(|t| t.data())));
                *read = Some((stamps, forests.clone()));
                forests
            }
        }
    }

    /// The forests among these weights.
    pub(super) fn in_params(&self, params: &Params) -> Vec<Forest> {
        self.read(self.ids().map(|id| params.values(id)))
    }

    fn ids(&self) -> [ParamId; ARRAYS] {
        [self.feature, self.value, self.left, self.right, self.missing, self.gain, self.used, self.base]
    }

    fn read(
        &self,
        [feature, value, left, right, missing, gain, used, base]: [&[f32]; ARRAYS],
    ) -> Vec<Forest> {
        let node = |at: usize| {
            if feature[at] < 0.0 {
                return Node::leaf(value[at]);
            }
            let children = (left[at] as u32, right[at] as u32);
            Node::split(feature[at] as u32, value[at], children, missing[at] > 0.0, gain[at])
        };
        let tree = |task: usize, tree: usize| {
            let start = (task * self.trees + tree) * self.nodes;
            // Children follow their parents, so the tree ends where nothing points any further.
            let mut nodes: Tree = Vec::new();
            let mut end = 1;
            while nodes.len() < end.min(self.nodes) {
                let next = node(start + nodes.len());
                if next.feature != LEAF {
                    end = end.max(1 + next.left.max(next.right & !MISSING_LEFT) as usize);
                }
                nodes.push(next);
            }
            nodes
        };
        let forest = |task: usize| Forest {
            base: f64::from(base[task]),
            trees: (0..(used[task] as usize).min(self.trees)).map(|t| tree(task, t)).collect(),
        };
        (0..self.tasks).map(forest).collect()
    }
}

/// Arrays of a [`Layout`].
const ARRAYS: usize = 8;

/// The forests that a pass last read, with the stamps of the weights they lie in: requests share them.
#[derive(Debug, Default)]
pub(super) struct Read(Mutex<Option<Stamped>>);

type Stamped = ([u64; ARRAYS], Arc<Vec<Forest>>);

/// The trees of one task.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Forest {
    /// Score before the first tree.
    pub(super) base: f64,
    pub(super) trees: Vec<Tree>,
}

impl Forest {
    /// Scores `[N]` of rows `[N, width]`.
    pub(super) fn scores(&self, rows: &[f32], width: usize) -> Vec<f64> {
        let mut scores = vec![self.base; rows.len() / width];
        add_scores(&self.trees, (rows, width), &mut scores);
        scores
    }

    /// Adds each column's gain to `sums`.
    pub(super) fn add_gains(&self, sums: &mut [f64]) {
        for node in self.trees.iter().flatten().filter(|n| n.feature != LEAF) {
            sums[node.feature as usize] += f64::from(node.gain);
        }
    }

    /// Whether every walk ends: children lie behind their parents and inside the tree, columns below `width`.
    pub(super) fn is_sound(&self, width: usize) -> bool {
        self.trees.iter().all(|tree| {
            tree.iter().enumerate().all(|(at, n)| {
                let behind = |child: u32| (child as usize) > at && (child as usize) < tree.len();
                n.feature == LEAF
                    || (n.feature as usize) < width && behind(n.left) && behind(n.right & !MISSING_LEFT)
            })
        })
    }
}
