//! Spectral embedding and clustering (Ng, Jordan and Weiss, NIPS 2001; von Luxburg, Statistics and Computing 2007) of the graph of items.
//!
//! ```text
//! L = I − D^−½ W D^−½,  L u_j = λ_j u_j,  0 = λ_1 ≤ λ_2 ≤ … ≤ λ_D
//! item i: (u_1i, …, u_Di), to length 1; clusters by k-means++ of these
//! ```
//! A user is the mean of the vectors of what she took, of length 1; an item's score is its cosine to that.
//!
//! In a graph with many small components each has a λ = 0 of its own, and the first vectors tell of nothing else. `inflation` adds so
//! many mean degrees to each node's degree (Qin and Rohe, NIPS 2013), which puts small components last.

use millstream_schema::ItemRow;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::recall::eigen::{Wanted, largest};
use crate::recall::envelope;
use crate::recall::factors::{FactorModel, Factors, FoldIn};
use crate::recall::graph::{Edges, GraphConfig};
use crate::recall::kmeans::KMeans;
use crate::recall::lists::InvertedLists;
use crate::recall::near::Near;
use crate::recall::positives::Positives;

const MODEL: &str = "spectral";
const MAGIC: &[u8; 8] = b"MSSPECTR";
const VERSION: u32 = 1;
/// Label of an item without edges.
const NONE: u32 = u32::MAX;

/// Options of spectral clustering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpectralConfig {
    /// The graph: `co_taken` or `consecutive`.
    pub graph: GraphConfig,
    /// Eigenvectors, 1 to 256: D.
    pub dim: usize,
    /// Clusters; 0 for as many as eigenvectors.
    pub clusters: usize,
    /// Mean degrees added to each degree, 0 or more; 0 is the Laplacian itself.
    pub inflation: f32,
    /// How far an eigenvector may be off: ‖Lu − λu‖.
    pub tolerance: f64,
    /// Rounds of looking for eigenvectors at most.
    pub rounds: usize,
    /// Times that k-means begins anew.
    pub starts: usize,
    /// Rounds of k-means at most.
    pub cluster_rounds: usize,
}

impl Default for SpectralConfig {
    fn default() -> Self {
        Self {
            graph: GraphConfig::default(),
            dim: 64,
            clusters: 0,
            inflation: 0.0,
            tolerance: 1e-3,
            rounds: 100,
            starts: 3,
            cluster_rounds: 50,
        }
    }
}

/// Items' vectors, and a cluster of each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spectral {
    factors: FactorModel,
    /// λ, rising.
    eigenvalues: Vec<f64>,
    /// `[N]`; `u32::MAX` for an item without edges.
    label: Vec<u32>,
}

impl SpectralConfig {
    /// # Errors
    /// An option out of range.
    pub fn check(&self) -> Result<(), Error> {
        let fail = |what: &str| Err(Error::Config(format!("{MODEL}: {what}")));
        self.graph.check(MODEL)?;
        match () {
            () if self.graph.edges == Edges::Bipartite => {
                fail("graph.edges = \"bipartite\" is for node2vec; choose \"co_taken\" or \"consecutive\"")
            }
            () if !(1..=256).contains(&self.dim) => fail("`dim` must be 1 to 256"),
            () if !(self.inflation.is_finite() && self.inflation >= 0.0) => {
                fail("`inflation` must be 0 or more")
            }
            () if !(self.tolerance > 0.0 && self.tolerance <= 1.0) => {
                fail("`tolerance` must be above 0, and 1 at most")
            }
            () if self.rounds == 0 || self.starts == 0 || self.cluster_rounds == 0 => {
                fail("`rounds`, `starts` and `cluster_rounds` must be above 0")
            }
            () => Ok(()),
        }
    }

    /// Finds the eigenvectors and the clusters.
    ///
    /// # Errors
    /// An option out of range, `consecutive` edges asked of positives without times, lists whose lengths do not fit together, or
    /// eigenvectors that are not good enough after all rounds.
    pub fn fit(&self, positives: &Positives<'_>, seed: u64) -> Result<Spectral, Error> {
        self.check()?;
        let graph = self.graph.build(positives, MODEL)?;
        let wanted = Wanted {
            count: self.dim,
            tolerance: self.tolerance,
            rounds: self.rounds,
            seed,
            inflation: f64::from(self.inflation),
        };
        let found = largest(&graph, &wanted, MODEL)?;
        let (count, dim) = (found.values.len(), self.dim);
        let mut items = vec![0.0f32; positives.items * dim];
        for (to, from) in items.chunks_exact_mut(dim).zip(found.vectors.chunks_exact(count.max(1))) {
            let length = from.iter().map(|x| x * x).sum::<f64>().sqrt();
            if length > 0.0 {
                to.iter_mut().zip(from).for_each(|(t, x)| *t = (x / length) as f32);
            }
        }
        let label = self.labels(&items, seed);
        let factors = FactorModel::new(MODEL, dim, (items, Vec::new()), FoldIn::Mean);
        Ok(Spectral { factors, eigenvalues: found.values.iter().map(|v| 1.0 - v).collect(), label })
    }

    fn labels(&self, items: &[f32], seed: u64) -> Vec<u32> {
        let rows = items.chunks_exact(self.dim);
        let known: Vec<bool> = rows.clone().map(|row| row.iter().any(|x| *x != 0.0)).collect();
        let points: Vec<f32> = rows.zip(&known).filter(|x| *x.1).flat_map(|x| x.0).copied().collect();
        let clusters = if self.clusters == 0 { self.dim } else { self.clusters };
        let means = KMeans { clusters, starts: self.starts, rounds: self.cluster_rounds, seed };
        let mut found = means.fit(&points, self.dim).label.into_iter();
        let label = |known: bool| if known { found.next() } else { None };
        known.into_iter().map(label).map(|label| label.unwrap_or(NONE)).collect()
    }
}

impl Spectral {
    /// Items' vectors.
    pub fn factors(&self) -> &FactorModel {
        &self.factors
    }

    /// λ, rising from about 0: at most `dim`, fewer where there are fewer items with edges.
    pub fn eigenvalues(&self) -> &[f64] {
        &self.eigenvalues
    }

    /// The item's cluster; none for an item without edges.
    pub fn cluster(&self, item: ItemRow) -> Option<u32> {
        self.label.get(item as usize).copied().filter(|&label| label != NONE)
    }

    /// For each item the most alike of its own cluster, by cosine.
    ///
    /// # Errors
    /// No neighbours are asked for.
    pub fn lists(&self, near: &Near) -> Result<InvertedLists, Error> {
        near.within_clusters((self.factors.dim(), self.factors.items()), &self.label)
    }

    /// Magic, version, xxh3 of the rest, then vectors, eigenvalues and clusters.
    ///
    /// # Errors
    /// The values cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        envelope::seal(MAGIC, VERSION, self)
    }

    /// The reverse of [`Spectral::to_bytes`]; shapes are checked, and that all values are numbers.
    ///
    /// # Errors
    /// The bytes are not such a model, are damaged, or are of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let read: Self = envelope::open(MAGIC, VERSION, "a spectral model", bytes)?;
        let sound = read.factors.sound()
            && read.factors.items().len() == read.label.len().saturating_mul(read.factors.dim())
            && read.eigenvalues.len() <= read.factors.dim()
            && read.eigenvalues.iter().all(|v| v.is_finite());
        if sound { Ok(read) } else { Err(Error::Corrupt("a spectral model does not hold together".into())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recall::draws::Draws;

    const BLOCKS: u32 = 5;
    const SIZE: u32 = 30;

    /// Users of five blocks of items; the share `stray` of what they take is of any block.
    fn planted(stray: f32) -> (Vec<u64>, Vec<u32>) {
        let (mut offsets, mut item) = (vec![0u64], Vec::new());
        let mut draws = Draws::new(9, 9);
        for user in 0..600u32 {
            for _ in 0..10 {
                let block =
                    if draws.unit() < stray { draws.below(BLOCKS as usize) as u32 } else { user % BLOCKS };
                item.push(block * SIZE + draws.below(SIZE as usize) as u32);
            }
            offsets.push(item.len() as u64);
        }
        (offsets, item)
    }

    fn config() -> SpectralConfig {
        SpectralConfig { dim: BLOCKS as usize, tolerance: 1e-6, ..SpectralConfig::default() }
    }

    /// Adjusted Rand index (Hubert and Arabie, Journal of Classification 1985).
    fn adjusted_rand(a: &[u32], b: &[u32]) -> f64 {
        let pairs = |n: usize| (n * n.saturating_sub(1) / 2) as f64;
        let sizes = |of: &dyn Fn(usize) -> (u32, u32)| {
            let mut counts = std::collections::BTreeMap::new();
            (0..a.len()).for_each(|at| *counts.entry(of(at)).or_insert(0usize) += 1);
            counts.into_values().map(pairs).sum::<f64>()
        };
        let (both, one, two) =
            (sizes(&|at| (a[at], b[at])), sizes(&|at| (a[at], 0)), sizes(&|at| (0, b[at])));
        let expected = one * two / pairs(a.len());
        (both - expected) / ((one + two) / 2.0 - expected)
    }

    #[test]
    fn planted_blocks_are_found_also_where_users_stray() {
        for stray in [0.0, 0.2] {
            let (offsets, item) = planted(stray);
            let items = (BLOCKS * SIZE + 1) as usize;
            let p = Positives { items, offsets: &offsets, item: &item, time_ms: &[] };
            let model = config().fit(&p, 1).unwrap();
            let got: Vec<u32> = (0..BLOCKS * SIZE).map(|i| model.cluster(i).unwrap()).collect();
            let truth: Vec<u32> = (0..BLOCKS * SIZE).map(|i| i / SIZE).collect();
            assert_eq!(adjusted_rand(&got, &truth), 1.0, "{stray}");
            assert_eq!(model.cluster(BLOCKS * SIZE), None, "nobody took it");
            let lambda = model.eigenvalues();
            assert!(lambda.is_sorted() && lambda[0].abs() < 1e-9);
            assert_eq!(lambda[4].abs() < 1e-9, stray == 0.0, "{lambda:?}");
            let lists = model.lists(&Near { neighbours: 7, ..Near::default() }).unwrap();
            for item in 0..BLOCKS * SIZE {
                assert_eq!(lists.neighbours(item).len(), 7);
                assert!(lists.neighbours(item).iter().all(|x| x.0 / SIZE == item / SIZE));
            }
            let user = model.factors().user_vector(&[(SIZE, 1.0), (SIZE + 3, 1.0)]);
            let best = model.factors().recommend(&user, 20, &|_| true);
            assert!(best.iter().all(|x| x.0 / SIZE == 1), "{best:?}");
        }
    }

    #[test]
    fn the_index_of_rand_knows_what_is_alike() {
        assert_eq!(adjusted_rand(&[0, 0, 1, 1], &[5, 5, 2, 2]), 1.0);
        // sklearn.metrics.adjusted_rand_score([0, 0, 1, 1], [0, 0, 1, 2]) and ([0, 0, 1, 1], [0, 1, 0, 1])
        assert!((adjusted_rand(&[0, 0, 1, 1], &[0, 0, 1, 2]) - 0.571_428_571).abs() < 1e-8);
        assert!((adjusted_rand(&[0, 0, 1, 1], &[0, 1, 0, 1]) + 0.5).abs() < 1e-12);
    }

    #[test]
    fn the_result_depends_on_the_seed_and_not_on_threads() {
        let (offsets, item) = planted(0.3);
        let p = Positives { items: 150, offsets: &offsets, item: &item, time_ms: &[] };
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| SpectralConfig { dim: 12, inflation: 0.5, ..config() }.fit(&p, 4).unwrap())
        };
        assert_eq!(on(1), on(2));
    }

    #[test]
    fn bytes_come_back_and_what_is_wrong_is_refused() {
        let (offsets, item) = planted(0.1);
        let p = Positives { items: 150, offsets: &offsets, item: &item, time_ms: &[] };
        let model = config().fit(&p, 1).unwrap();
        let bytes = model.to_bytes().unwrap();
        assert_eq!(Spectral::from_bytes(&bytes).unwrap(), model);
        for at in [0, 9, 14, bytes.len() / 2, bytes.len() - 1] {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Spectral::from_bytes(&bad).is_err(), "byte {at}");
        }
        let short = Spectral { label: vec![0; 3], ..model };
        assert!(Spectral::from_bytes(&short.to_bytes().unwrap()).is_err());
        let bipartite = GraphConfig { edges: Edges::Bipartite, ..GraphConfig::default() };
        for wrong in [
            SpectralConfig { dim: 0, ..config() },
            SpectralConfig { tolerance: 0.0, ..config() },
            SpectralConfig { inflation: -1.0, ..config() },
            SpectralConfig { starts: 0, ..config() },
            SpectralConfig { graph: bipartite, ..config() },
        ] {
            assert!(wrong.fit(&p, 1).is_err());
        }
    }
}
