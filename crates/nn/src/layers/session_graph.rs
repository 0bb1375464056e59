//! Sessions as graphs: an item is a node however often it was met, and each step from one to the next an edge.

use crate::error::{Error, Result};
use crate::ops::{Bags, Pooling};
use std::sync::Arc;

/// How a node and its neighbour stand to each other; also the number of a relation's weight.
const SELF: u32 = 0;
const BEFORE: u32 = 1;
const AFTER: u32 = 2;
const BOTH: u32 = 3;
/// Relations.
pub(crate) const RELATIONS: usize = 4;

/// The graphs of B sessions (Wu et al. 2019): M elements, N nodes, and of each node the nodes that were stepped to it from
/// and that it was stepped from to, each once; an item repeated at once is its own neighbour.
#[derive(Debug, Clone)]
pub struct SessionGraph {
    rows: Arc<Vec<u32>>,
    node_of: Arc<Vec<u32>>,
    before: Bags,
    after: Bags,
}

impl SessionGraph {
    /// Graphs of the sessions with offsets `[B + 1]` whose elements `[M]` are `items`: numbers of rows below `rows`.
    ///
    /// # Errors
    /// Offsets that do not rise from 0 to M, or an item that is no row.
    pub fn new(offsets: &[u32], items: &[u32], rows: usize) -> Result<Self> {
        let end = offsets.last().map(|end| *end as usize);
        if offsets.first() != Some(&0) || !offsets.is_sorted() || end != Some(items.len()) {
            return Err(Error::Batch(format!(
                "offsets up to {end:?} of {} elements of sessions",
                items.len()
            )));
        }
        if let Some(item) = items.iter().find(|item| **item as usize >= rows) {
            return Err(Error::Batch(format!("a session's item {item} is none of {rows} rows")));
        }
        let (mut nodes, mut node_of) = (Vec::new(), Vec::with_capacity(items.len()));
        let (mut before, mut after) = (Vec::new(), Vec::new());
        // The node that an item has in the session at hand, if it was met at or after that session's first node.
        let mut known = vec![(0u32, false); rows];
        for ends in offsets.windows(2) {
            let first = nodes.len() as u32;
            let from = before.len();
            let mut last = None;
            for &item in &items[ends[0] as usize..ends[1] as usize] {
                let place = &mut known[item as usize];
                if !place.1 || place.0 < first {
                    *place = (nodes.len() as u32, true);
                    nodes.push(item);
                }
                if let Some(last) = last {
                    before.push((place.0, last));
                    after.push((last, place.0));
                }
                last = Some(place.0);
                node_of.push(place.0);
            }
            before[from..].sort_unstable();
            after[from..].sort_unstable();
        }
        before.dedup();
        after.dedup();
        let n = nodes.len();
        let (before, after) = (bags(n, &before)?, bags(n, &after)?);
        Ok(Self { rows: Arc::new(nodes), node_of: Arc::new(node_of), before, after })
    }

    /// N.
    pub fn nodes(&self) -> usize {
        self.rows.len()
    }

    /// `[N]`: the row of each node's item.
    pub fn rows(&self) -> &Arc<Vec<u32>> {
        &self.rows
    }

    /// `[M]`: the node of each element.
    pub fn node_of(&self) -> &Arc<Vec<u32>> {
        &self.node_of
    }

    /// Nodes that each node was stepped to from; pooled by mean.
    pub fn before(&self) -> &Bags {
        &self.before
    }

    /// Nodes that were stepped to from each node; pooled by mean.
    pub fn after(&self) -> &Bags {
        &self.after
    }

    /// Each node's neighbours, itself first, with their relations.
    pub(crate) fn neighbours(&self) -> (Bags, Arc<Vec<u32>>) {
        let (mut offsets, mut index, mut relations) = (vec![0u32], Vec::new(), Vec::new());
        for node in 0..self.nodes() {
            let before = &self.before.index()[self.before.range(node)];
            let after = &self.after.index()[self.after.range(node)];
            index.push(node as u32);
            relations.push(SELF);
            for other in before.iter().filter(|other| **other != node as u32) {
                index.push(*other);
                relations.push(if after.binary_search(other).is_ok() { BOTH } else { BEFORE });
            }
            for other in after.iter().filter(|o| **o != node as u32 && before.binary_search(o).is_err()) {
                index.push(*other);
                relations.push(AFTER);
            }
            offsets.push(index.len() as u32);
        }
        let bags =
            Bags { offsets: Arc::new(offsets), index: Arc::new(index), weights: None, pooling: Pooling::Sum };
        (bags, Arc::new(relations))
    }
}

/// Edges (node, neighbour), sorted, as bags of neighbours.
fn bags(nodes: usize, edges: &[(u32, u32)]) -> Result<Bags> {
    let mut offsets = vec![0u32; nodes + 1];
    edges.iter().for_each(|(node, _)| offsets[*node as usize + 1] += 1);
    for node in 0..nodes {
        offsets[node + 1] += offsets[node];
    }
    Bags::new(offsets, edges.iter().map(|(_, other)| *other).collect(), None, Pooling::Mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bags: &Bags, node: usize) -> Vec<u32> {
        bags.index()[bags.range(node)].to_vec()
    }

    #[test]
    fn nodes_are_items_once_and_edges_steps_once() {
        // a b a b b c | (nothing) | b a
        let graph = SessionGraph::new(&[0, 6, 6, 8], &[4, 7, 4, 7, 7, 2, 7, 4], 9).unwrap();
        assert_eq!(graph.rows()[..], [4, 7, 2, 7, 4]);
        assert_eq!(graph.node_of()[..], [0, 1, 0, 1, 1, 2, 3, 4]);
        let all = |bags: &Bags| (0..5).map(|n| of(bags, n)).collect::<Vec<_>>();
        assert_eq!(all(graph.before()), [vec![1], vec![0, 1], vec![1], vec![], vec![3]]);
        assert_eq!(all(graph.after()), [vec![1], vec![0, 1, 2], vec![], vec![4], vec![]]);
        let (near, relations) = graph.neighbours();
        assert_eq!(all(&near), [vec![0, 1], vec![1, 0, 2], vec![2, 1], vec![3, 4], vec![4, 3]]);
        assert_eq!(relations[..], [SELF, BOTH, SELF, BOTH, AFTER, SELF, BEFORE, SELF, AFTER, SELF, BEFORE]);
    }

    #[test]
    fn nothing_is_a_graph_and_what_does_not_fit_is_refused() {
        let none = SessionGraph::new(&[0, 0], &[], 0).unwrap();
        assert_eq!((none.nodes(), none.neighbours().0.len()), (0, 0));
        assert!(SessionGraph::new(&[0, 2], &[1], 3).is_err());
        assert!(SessionGraph::new(&[1, 1], &[1], 3).is_err());
        assert!(SessionGraph::new(&[], &[], 3).is_err());
        assert!(SessionGraph::new(&[0, 1], &[3], 3).unwrap_err().to_string().contains("none of 3 rows"));
    }
}
