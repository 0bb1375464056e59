//! A graph of two kinds of nodes, and vectors that flow along its edges.

#![allow(unsafe_code)]

use crate::buffer::Buffer;
use crate::chunks::wide;
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor, own};
use rayon::prelude::*;
use std::sync::Arc;

/// Nodes of one unit of parallel work.
const BLOCK: usize = 256;
/// Columns that are summed at a time, in registers.
const COLUMNS: usize = 64;
/// Rows asked for ahead of their turn.
const AHEAD: usize = 6;

/// Users and items and who acted on what; nodes are numbered users first.
///
/// Memory: 8 bytes per edge and 12 per node.
#[derive(Debug, Clone)]
pub struct Bipartite {
    users: usize,
    items: usize,
    /// `[users + items + 1]`.
    offsets: Vec<u32>,
    /// Neighbours of all nodes, rising for each.
    neighbours: Vec<u32>,
    /// 1/√degree of each node; 0 of a node without edges.
    scale: Vec<f32>,
}

impl Bipartite {
    /// From each user's items: user u has `items_of[offsets[u]..offsets[u + 1]]`. An edge that is named twice counts once.
    ///
    /// # Errors
    /// Offsets that do not rise from 0 to the number of items named, an item that is not there, or 2³² edges and more.
    pub fn new(items: usize, offsets: &[u32], items_of: &[u32]) -> Result<Self> {
        let ends =
            offsets.first() == Some(&0) && offsets.last().map(|end| *end as usize) == Some(items_of.len());
        if !ends || !offsets.is_sorted() || items_of.iter().any(|i| *i as usize >= items) {
            return Err(Error::Batch("the edges of a graph do not fit its users and items".into()));
        }
        let users = offsets.len() - 1;
        let nodes = users + items;
        if nodes >= u32::MAX as usize || items_of.len() > (u32::MAX / 2) as usize {
            return Err(Error::Batch(format!("a graph of {} edges is too large", items_of.len())));
        }
        let (mut ends, mut neighbours) = (vec![0u32], Vec::with_capacity(2 * items_of.len()));
        for span in offsets.windows(2) {
            let mut own = items_of[span[0] as usize..span[1] as usize].to_vec();
            own.sort_unstable();
            own.dedup();
            neighbours.extend(own.iter().map(|i| users as u32 + i));
            ends.push(neighbours.len() as u32);
        }
        let forth = neighbours.len();
        let mut counts = vec![0u32; items];
        neighbours.iter().for_each(|n| counts[*n as usize - users] += 1);
        for count in counts {
            ends.push(ends[ends.len() - 1] + count);
        }
        neighbours.resize(2 * forth, 0);
        let mut next = ends[users..nodes].to_vec();
        for u in 0..users {
            for at in ends[u] as usize..ends[u + 1] as usize {
                let place = &mut next[neighbours[at] as usize - users];
                neighbours[*place as usize] = u as u32;
                *place += 1;
            }
        }
        let scale =
            ends.windows(2).map(|s| if s[1] > s[0] { 1.0 / ((s[1] - s[0]) as f32).sqrt() } else { 0.0 });
        Ok(Self { users, items, scale: scale.collect(), offsets: ends, neighbours })
    }

    /// Number of users.
    pub fn users(&self) -> usize {
        self.users
    }

    /// Number of items.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Users and items.
    pub fn nodes(&self) -> usize {
        self.users + self.items
    }

    /// Number of edges between them.
    pub fn edges(&self) -> usize {
        self.neighbours.len() / 2
    }

    /// 1/√degree of a node; 0 of one without edges.
    pub fn scale(&self, node: usize) -> f32 {
        self.scale[node]
    }

    /// The nodes that share an edge with this one, rising.
    pub fn neighbours(&self, node: usize) -> &[u32] {
        &self.neighbours[self.offsets[node] as usize..self.offsets[node + 1] as usize]
    }

    /// One hop, all nodes: `out_v = scale_v² Σ_{w ~ v} in_w` for `[nodes, D]` of vectors that were multiplied by their node's scale; what
    /// comes out is so too.
    fn hop(&self, from: &[f32], out: &mut [f32], width: usize) {
        out.par_chunks_mut(BLOCK * width).enumerate().for_each(|(block, out)| {
            let first = block * BLOCK;
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                self.gather(first + i, from, out);
            }
        });
    }

    /// As [`Bipartite::hop`] from vectors of which only those of the nodes marked are not zero.
    fn hop_from(&self, (from, marked): (&[f32], &[bool]), out: &mut [f32], width: usize) {
        out.par_chunks_mut(BLOCK * width).enumerate().for_each(|(block, out)| {
            let mut some = Vec::new();
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                let node = block * BLOCK + i;
                some.clear();
                some.extend(self.neighbours(node).iter().copied().filter(|n| marked[*n as usize]));
                sum(from, &some, self.scale[node] * self.scale[node], out);
            }
        });
    }

    fn gather(&self, node: usize, from: &[f32], out: &mut [f32]) {
        sum(from, self.neighbours(node), self.scale[node] * self.scale[node], out);
    }

    /// Multiplies each node's vector by its scale.
    fn scaled(&self, vectors: &[f32], width: usize) -> Buffer {
        let mut out = Buffer::copy_of(vectors);
        out.par_chunks_mut(BLOCK * width).enumerate().for_each(|(block, out)| {
            for (i, row) in out.chunks_exact_mut(width).enumerate() {
                let scale = self.scale[block * BLOCK + i];
                row.iter_mut().for_each(|v| *v *= scale);
            }
        });
        out
    }
}

/// Σ of the rows named, times a factor.
#[inline]
fn sum(rows: &[f32], index: &[u32], factor: f32, out: &mut [f32]) {
    let width = out.len();
    if let Some(most) = index.iter().max() {
        assert!((*most as usize + 1) * width <= rows.len(), "a neighbour that is not there");
    }
    sum_rows(rows, index, factor, out);
}

wide! {
    /// The rows were checked to be there.
    fn sum_rows(rows: &[f32], index: &[u32], factor: f32, out: &mut [f32]) {
        let width = out.len();
        for (part, out) in out.chunks_mut(COLUMNS).enumerate() {
            let from = part * COLUMNS;
            if let Ok(out) = <&mut [f32; COLUMNS]>::try_from(&mut *out) {
                let mut sums = [0.0f32; COLUMNS];
                for (at, node) in index.iter().enumerate() {
                    if let Some(next) = index.get(at + AHEAD) {
                        prefetch(rows, *next as usize * width + from);
                    }
                    let row = &rows[*node as usize * width + from..][..COLUMNS];
                    for c in 0..COLUMNS {
                        sums[c] += row[c];
                    }
                }
                for c in 0..COLUMNS {
                    out[c] = sums[c] * factor;
                }
            } else {
                out.fill(0.0);
                for node in index {
                    let row = &rows[*node as usize * width + from..][..out.len()];
                    out.iter_mut().zip(row).for_each(|(o, v)| *o += v);
                }
                out.iter_mut().for_each(|o| *o *= factor);
            }
        }
    }
}

/// Asks for the cache lines of [`COLUMNS`] values from `at`; a hint without any other effect.
#[inline(always)]
fn prefetch(rows: &[f32], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = rows.as_ptr().wrapping_add(at).cast::<i8>();
        for line in 0..COLUMNS / 16 {
            // SAFETY: a prefetch neither reads nor faults, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(64 * line)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (rows, at);
}

/// All nodes' vectors after each layer, multiplied by the nodes' scale: `[layers + 1]` times `[nodes, D]`.
fn layers(graph: &Bipartite, first: &[f32], width: usize, layers: usize) -> Vec<Buffer> {
    let mut all = vec![graph.scaled(first, width)];
    for layer in 0..layers {
        let mut next = Buffer::any(first.len());
        graph.hop(&all[layer], &mut next, width);
        all.push(next);
    }
    all
}

impl Tensor {
    /// Vectors `[nodes, D]` of the first layer → `[W, D]` of the nodes `wanted`: the mean of layers 0 to `layers` of
    /// e^{k+1}_v = Σ_{w ~ v} e^k_w / √(|N_v| |N_w|) (He et al., LightGCN, SIGIR 2020, eq. 3 and 4).
    ///
    /// The last layer is made of the wanted nodes alone, and the first step back starts from them alone.
    ///
    /// # Panics
    /// If there is another number of nodes, or a node wanted that is not there.
    pub fn propagate(&self, graph: &Arc<Bipartite>, layers: usize, wanted: &Arc<Vec<u32>>) -> Tensor {
        let width = self.width();
        assert_eq!(self.rows(), graph.nodes(), "vectors {:?} of a graph's nodes", self.shape);
        assert!(wanted.iter().all(|n| (*n as usize) < graph.nodes()), "a node that is not there");
        let out = forward(graph, (self.data(), width), layers, wanted);
        let (node, graph, wanted) = (self.node, graph.clone(), wanted.clone());
        self.output(Shape::new(&[wanted.len(), width]), own(out), node.is_some(), move |g, grads| {
            grads.add(node, backward(&graph, (&g, width), layers, &wanted));
        })
    }
}

fn forward(graph: &Bipartite, (first, width): (&[f32], usize), depth: usize, wanted: &[u32]) -> Buffer {
    let all = if depth > 0 { layers(graph, first, width, depth - 1) } else { Vec::new() };
    let share = 1.0 / (depth + 1) as f32;
    let mut out = Buffer::any(wanted.len() * width);
    out.par_chunks_mut(BLOCK * width).zip(wanted.par_chunks(BLOCK)).for_each(|(out, nodes)| {
        for (out, node) in out.chunks_exact_mut(width).zip(nodes) {
            let node = *node as usize;
            let own = node * width..(node + 1) * width;
            let scale = graph.scale[node];
            match all.last() {
                Some(last) => graph.gather(node, last, out),
                None => out.fill(0.0),
            }
            // Layers hold vectors times the scale; the first is there as it is.
            for layer in all.iter().skip(1) {
                out.iter_mut().zip(&layer[own.clone()]).for_each(|(o, v)| *o += v);
            }
            let unscale = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            out.iter_mut().zip(&first[own]).for_each(|(o, v)| *o = share * (*o * unscale + v));
        }
    });
    out
}

/// The slopes of the first layer: with A the symmetric matrix of all edges and G the slopes of the wanted nodes,
/// (G + A (G + A (G + …))) / (layers + 1).
fn backward(graph: &Bipartite, (g, width): (&[f32], usize), depth: usize, wanted: &[u32]) -> Buffer {
    let n = graph.nodes();
    let share = 1.0 / (depth + 1) as f32;
    let mut start = Buffer::zeros(n * width);
    let mut marked = vec![false; n];
    for (g, node) in g.chunks_exact(width).zip(wanted) {
        let node = *node as usize;
        marked[node] = true;
        start[node * width..][..width].iter_mut().zip(g).for_each(|(s, g)| *s += share * g);
    }
    if depth == 0 {
        return start;
    }
    // A = S B S with B of zeros and ones: y = S x goes through hops x → S² B x.
    let scaled = graph.scaled(&start, width);
    let mut now = Buffer::any(n * width);
    graph.hop_from((&scaled, &marked), &mut now, width);
    for _ in 1..depth {
        add_marked(&mut now, &scaled, &marked, width);
        let mut next = Buffer::any(n * width);
        graph.hop(&now, &mut next, width);
        now = next;
    }
    // Back from S y to y, and the wanted nodes' own slopes.
    now.par_chunks_mut(BLOCK * width).enumerate().for_each(|(block, part)| {
        for (i, row) in part.chunks_exact_mut(width).enumerate() {
            let node = block * BLOCK + i;
            let unscale = if graph.scale[node] > 0.0 { 1.0 / graph.scale[node] } else { 0.0 };
            row.iter_mut().for_each(|v| *v *= unscale);
            if marked[node] {
                row.iter_mut().zip(&start[node * width..][..width]).for_each(|(v, s)| *v += s);
            }
        }
    });
    now
}

fn add_marked(into: &mut [f32], from: &[f32], marked: &[bool], width: usize) {
    let rows = into.par_chunks_exact_mut(width).zip(from.par_chunks_exact(width)).zip(marked);
    rows.with_min_len(BLOCK).filter(|(_, marked)| **marked).for_each(|((into, from), _)| {
        into.iter_mut().zip(from).for_each(|(a, b)| *a += b);
    });
}

/// What serves a graph's vectors without the graph, from the first layer `[nodes, D]`: for each item the vector that the layers make of it
/// `[items, D]`, and what it gives to a user who acts on it, Σ_{k < layers} e^k_i / (√|N_i| (layers + 1)) `[items, D]`.
///
/// A user with items N is then e⁰_u / (layers + 1) + Σ_{i ∈ N} given_i / √|N|: the same as in the graph, and defined for users who are not in it.
///
/// # Panics
/// If there is another number of nodes.
pub fn settled(graph: &Bipartite, (first, width): (&[f32], usize), depth: usize) -> (Vec<f32>, Vec<f32>) {
    assert_eq!(first.len(), graph.nodes() * width, "vectors of a graph's nodes");
    let share = 1.0 / (depth + 1) as f32;
    let nodes: Vec<u32> = (graph.users as u32..graph.nodes() as u32).collect();
    let vectors = forward(graph, (first, width), depth, &nodes).to_vec();
    let all = if depth > 0 { layers(graph, first, width, depth - 1) } else { Vec::new() };
    let mut given = vec![0.0; graph.items * width];
    for layer in &all {
        let items = &layer[graph.users * width..];
        given.iter_mut().zip(items).for_each(|(o, v)| *o += share * v);
    }
    (vectors, given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Init, Mode, Params, Pass, gradcheck};

    /// Three users, four items, the last of which nobody has; user 1 names an item twice.
    fn small() -> Bipartite {
        Bipartite::new(4, &[0, 2, 5, 5], &[0, 1, 1, 2, 1]).expect("graph")
    }

    /// e^{k+1} by the definition, over a dense matrix.
    fn naive(graph: &Bipartite, first: &[f64], width: usize, depth: usize) -> Vec<f64> {
        let n = graph.nodes();
        let degree = |v: usize| graph.neighbours(v).len() as f64;
        let (mut layer, mut mean) = (first.to_vec(), first.to_vec());
        for _ in 0..depth {
            let mut next = vec![0.0; n * width];
            for v in 0..n {
                for w in graph.neighbours(v).iter().map(|w| *w as usize) {
                    for c in 0..width {
                        next[v * width + c] += layer[w * width + c] / (degree(v) * degree(w)).sqrt();
                    }
                }
            }
            mean.iter_mut().zip(&next).for_each(|(m, v)| *m += v);
            layer = next;
        }
        mean.iter().map(|m| m / (depth + 1) as f64).collect()
    }

    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 29 + 7) % 23) as f32 / 11.0 - 1.0).collect()
    }

    #[test]
    fn propagation_is_the_definition_for_any_depth_and_width() {
        let graph = Arc::new(small());
        assert_eq!((graph.users(), graph.items(), graph.edges()), (3, 4, 4));
        for (width, depth) in [(2, 0), (2, 1), (70, 2), (64, 3), (5, 4)] {
            let first = values(7 * width);
            let exact = naive(&graph, &first.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), width, depth);
            let params = Params::new(1);
            let pass = Pass::new(&params, Mode::Infer, 0);
            let wanted = Arc::new(vec![6, 0, 3, 2, 0]);
            let out = pass.constant(&[7, width], first.clone()).propagate(&graph, depth, &wanted);
            for (row, node) in out.data().chunks_exact(width).zip(wanted.iter()) {
                for (got, want) in row.iter().zip(&exact[*node as usize * width..]) {
                    assert!((f64::from(*got) - want).abs() < 1e-6, "{width} {depth} {node}: {got} {want}");
                }
            }
            let (items, given) = settled(&graph, (&first, width), depth);
            for (got, want) in items.iter().zip(&exact[3 * width..]) {
                assert!((f64::from(*got) - want).abs() < 1e-6);
            }
            for u in 0..3 {
                let own = graph.neighbours(u);
                for c in 0..width {
                    let of = |i: &u32| given[(*i as usize - 3) * width + c];
                    let sum = own.iter().map(of).sum::<f32>() * graph.scale(u);
                    let user = first[u * width + c] / (depth + 1) as f32 + sum;
                    assert!((f64::from(user) - exact[u * width + c]).abs() < 1e-6, "user {u} after {depth}");
                }
            }
        }
    }

    #[test]
    fn slopes_agree_with_finite_differences() {
        let graph = Arc::new(small());
        for depth in 0..4 {
            let mut params = Params::new(3);
            let id = params.dense("x", &[7, 3], Init::Normal(1.0)).expect("weight");
            gradcheck::check(&mut params, 3e-3, |pass| {
                let wanted = Arc::new(vec![1, 4, 1, 6, 2]);
                let y = pass.param(id).propagate(&graph, depth, &wanted);
                y.mul(&pass.constant(y.shape(), values(15))).sum()
            })
            .expect("slopes");
        }
    }

    #[test]
    fn edges_that_do_not_fit_are_refused() {
        assert!(Bipartite::new(2, &[0, 1], &[2]).is_err());
        assert!(Bipartite::new(2, &[0, 2, 1], &[0, 1]).is_err());
        assert!(Bipartite::new(2, &[], &[]).is_err());
    }
}
