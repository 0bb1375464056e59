//! One forward pass, and the gradients it leaves.

use crate::buffer::Buffer;
use crate::kept::Kept;
use crate::params::{ParamId, Params, Precision, TableId, TableSpec};
use crate::tape::{Grads, NodeId, Tape};
use crate::tensor::{Data, Shape, Tensor};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// What a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Dropout on, batch statistics from the batch, gradients recorded.
    Train,
    /// Nothing random, nothing recorded.
    Infer,
}

/// One forward pass over a batch: hands out the weights, and records what is done with them when training.
///
/// A pass sees the weights as they were when it began. It belongs to one thread; the work inside uses rayon's
/// global pool.
///
/// ```
/// use millstream_nn::{Init, Mode, Params, Pass};
/// let mut params = Params::new(1);
/// let w = params.dense("w", &[1, 2], Init::Ones)?;
/// let pass = Pass::new(&params, Mode::Train, 0);
/// let x = pass.constant(&[2, 2], vec![1.0, 2.0, 3.0, 4.0]);
/// let loss = x.linear(&pass.param(w), None).mean();
/// let gradients = pass.backward(&loss);
/// assert_eq!(loss.item(), 5.0);
/// assert_eq!(gradients.dense(w), Some(&[2.0, 3.0][..]));
/// # Ok::<(), millstream_nn::Error>(())
/// ```
pub struct Pass {
    mode: Mode,
    seed: u64,
    draws: Cell<u64>,
    tape: Rc<Tape>,
    weights: Vec<(Shape, Arc<Kept>, bool)>,
    precision: Precision,
    handed: RefCell<Vec<Option<Tensor>>>,
    rows: RefCell<Vec<Option<NodeId>>>,
    tables: Arc<Vec<TableSpec>>,
    statistics: RefCell<Vec<(ParamId, Vec<f32>)>>,
    losses: RefCell<Vec<Tensor>>,
}

impl Pass {
    /// A pass over these weights; `seed` decides dropout, so give each step its own.
    pub fn new(params: &Params, mode: Mode, seed: u64) -> Self {
        let weights: Vec<_> = params.slots().iter().map(|s| (s.shape, s.values.clone(), s.trained)).collect();
        Self {
            mode,
            seed,
            draws: Cell::new(0),
            tape: Rc::new(Tape::new()),
            handed: RefCell::new(vec![None; weights.len()]),
            rows: RefCell::new(vec![None; params.tables().len()]),
            tables: params.shared_tables(),
            precision: if mode == Mode::Infer { params.precision() } else { Precision::F32 },
            statistics: RefCell::new(Vec::new()),
            losses: RefCell::new(Vec::new()),
            weights,
        }
    }

    /// What the pass is for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether gradients are recorded and dropout is on.
    pub fn is_training(&self) -> bool {
        self.mode == Mode::Train
    }

    /// Whether nothing so far differs from what a pass in the other mode would have computed: nothing random was drawn
    /// and no statistic of the batch was used.
    pub fn is_plain(&self) -> bool {
        self.draws.get() == 0 && self.statistics.borrow().is_empty()
    }

    /// A weight as a tensor.
    pub fn param(&self, id: ParamId) -> Tensor {
        if let Some(t) = &self.handed.borrow()[id.0] {
            return t.clone();
        }
        let (shape, values, trained) = &self.weights[id.0];
        let node = (self.is_training() && *trained).then(|| self.tape.leaf());
        let values = Rc::new(Data::Shared(values.clone(), self.precision));
        let tensor = Tensor { shape: *shape, values, node, tape: self.tape.clone(), split: None };
        self.handed.borrow_mut()[id.0] = Some(tensor.clone());
        tensor
    }

    /// See [`Params::stamp`].
    pub fn stamp(&self, id: ParamId) -> u64 {
        self.weights[id.0].1.stamp()
    }

    /// Numbers from outside, to which no gradient flows.
    ///
    /// # Panics
    /// If `values` does not fill the shape.
    pub fn constant(&self, shape: &[usize], values: Vec<f32>) -> Tensor {
        self.input(shape, values.into(), None)
    }

    /// Rows of an embedding table `[U, D]` whose gradient is kept in training.
    ///
    /// # Panics
    /// If `values` is no whole number of rows of `dim`, or the table was given its rows before.
    pub fn table_rows(&self, table: TableId, dim: usize, values: Vec<f32>) -> Tensor {
        let node = self.is_training().then(|| self.tape.leaf());
        let before = std::mem::replace(&mut self.rows.borrow_mut()[table.0], node);
        assert!(before.is_none(), "rows of table {} are given twice", table.0);
        self.input(&[values.len() / dim, dim], values.into(), node)
    }

    fn input(&self, shape: &[usize], values: Buffer, node: Option<NodeId>) -> Tensor {
        let shape = Shape::new(shape);
        assert_eq!(shape.len(), values.len(), "{} values cannot have shape {shape:?}", values.len());
        Tensor { shape, values: Rc::new(Data::Own(values)), node, tape: self.tape.clone(), split: None }
    }

    /// The tables whose rows this pass may be given; [`TableId`] is an index into them.
    pub fn tables(&self) -> &[TableSpec] {
        &self.tables
    }

    /// The output of an operation on no particular tensor; see [`Tensor::output`].
    pub(crate) fn output(
        &self,
        shape: &[usize],
        values: Buffer,
        tracked: bool,
        back: impl FnOnce(Buffer, &mut Grads) + 'static,
    ) -> Tensor {
        self.input(shape, values, tracked.then(|| self.tape.operation(Box::new(back))))
    }

    /// A seed for the next random operation of this pass.
    pub(crate) fn draw(&self) -> u64 {
        let n = self.draws.get() + 1;
        self.draws.set(n);
        mix(self.seed ^ mix(n))
    }

    /// Notes the new values of a running statistic, to be put in place with the gradients.
    pub(crate) fn note_statistic(&self, id: ParamId, values: Vec<f32>) {
        self.statistics.borrow_mut().push((id, values));
    }

    /// Adds a scalar to what training is to make small, beside the loss of the pass's outputs: an objective of a layer's own. Whoever
    /// trains adds [`Pass::take_losses`] to the loss. In inference nothing is kept.
    ///
    /// # Panics
    /// If it is no scalar.
    pub fn add_loss(&self, loss: Tensor) {
        assert_eq!(loss.len(), 1, "a loss is a scalar, not {:?}", loss.shape);
        if self.is_training() {
            self.losses.borrow_mut().push(loss);
        }
    }

    /// The sum of what was added by [`Pass::add_loss`] since it was last taken; `None` if nothing was.
    pub fn take_losses(&self) -> Option<Tensor> {
        self.losses.take().into_iter().reduce(|sum, loss| sum.add(&loss))
    }

    /// Gradients of `loss` with respect to all weights and table rows it depends on. Once per pass.
    ///
    /// # Panics
    /// If `loss` is no scalar, or the pass is not for training.
    pub fn backward(&self, loss: &Tensor) -> Gradients {
        assert!(self.is_training(), "gradients are asked of a pass in inference mode");
        assert_eq!(loss.len(), 1, "gradients start from a scalar, not from {:?}", loss.shape);
        let mut grads = loss.node.map(|last| self.tape.run(last, Buffer::from(vec![1.0])));
        let mut take = |node: Option<NodeId>| grads.as_mut()?.take(node?);
        let handed = self.handed.borrow();
        Gradients {
            dense: handed.iter().map(|t| take(t.as_ref()?.node)).collect(),
            rows: self.rows.borrow().iter().map(|node| take(*node)).collect(),
            statistics: self.statistics.take(),
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        // Operations hold tensors, and tensors the tape: break the circle.
        self.tape.clear();
    }
}

/// Finaliser of SplitMix64.
pub(crate) fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a backward pass leaves: gradients by weight and by table, and new running statistics.
#[derive(Debug, Default)]
pub struct Gradients {
    dense: Vec<Option<Buffer>>,
    rows: Vec<Option<Buffer>>,
    pub(crate) statistics: Vec<(ParamId, Vec<f32>)>,
}

impl Gradients {
    /// Gradient of a weight, in its layout; `None` if the loss does not depend on it.
    pub fn dense(&self, id: ParamId) -> Option<&[f32]> {
        self.dense.get(id.0)?.as_deref()
    }

    /// Gradient of a table's rows `[U, D]`; `None` if the loss does not depend on them.
    pub fn rows(&self, table: TableId) -> Option<&[f32]> {
        self.rows.get(table.0)?.as_deref()
    }

    /// Euclidean norm of all gradients, dense and rows, together.
    pub fn norm(&self) -> f32 {
        let squares = |b: &Buffer| b.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        self.all().map(squares).sum::<f64>().sqrt() as f32
    }

    /// Scales all gradients so that their joint norm is at most `most`; returns the norm before.
    pub fn clip(&mut self, most: f32) -> f32 {
        let norm = self.norm();
        if norm > most {
            self.scale(most / norm);
        }
        norm
    }

    /// Multiplies all gradients by `factor`.
    pub fn scale(&mut self, factor: f32) {
        for buffer in self.dense.iter_mut().chain(&mut self.rows).flatten() {
            crate::chunks::rows(buffer, 1, |_, chunk| chunk.iter_mut().for_each(|v| *v *= factor));
        }
    }

    /// Adds the gradients of another pass over the same weights and rows; running statistics stay those of this one.
    ///
    /// # Panics
    /// If rows of a table differ in number.
    pub fn add(&mut self, other: Gradients) {
        let both = [(&mut self.dense, other.dense), (&mut self.rows, other.rows)];
        for (mine, theirs) in both {
            mine.resize_with(mine.len().max(theirs.len()), || None);
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                match (mine, theirs) {
                    (_, None) => {}
                    (mine @ None, theirs) => *mine = theirs,
                    (Some(mine), Some(theirs)) => {
                        assert_eq!(mine.len(), theirs.len(), "gradients of other rows are added");
                        crate::chunks::update(mine, &theirs, |a, b| a + b);
                    }
                }
            }
        }
    }

    /// Adds the new value of a running statistic, which the optimiser puts in place with the gradients.
    pub fn note_statistic(&mut self, id: ParamId, values: Vec<f32>) {
        self.statistics.push((id, values));
    }

    /// Whether no gradient is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        self.all().all(|b| b.iter().all(|v| v.is_finite()))
    }

    /// The first weight or table with a gradient that is NaN or infinite, by name.
    pub fn first_non_finite<'a>(&self, params: &'a Params) -> Option<&'a str> {
        let bad = |b: &Option<Buffer>| b.as_ref().is_some_and(|b| b.iter().any(|v| !v.is_finite()));
        if let Some(at) = self.dense.iter().position(bad) {
            return Some(params.name(ParamId(at)));
        }
        self.rows.iter().position(bad).map(|at| params.tables()[at].name.as_str())
    }

    fn all(&self) -> impl Iterator<Item = &Buffer> {
        self.dense.iter().chain(&self.rows).flatten()
    }
}
