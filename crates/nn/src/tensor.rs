//! Dense `f32` arrays of up to three axes, as cheap handles.

use crate::buffer::Buffer;
use crate::fixed::FixedPanels;
use crate::kept::{Choice, Kept};
use crate::ops::split::Split;
use crate::params::Precision;
use crate::tape::{Grads, NodeId, Tape};
use crate::tiles::Panels;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

/// Sizes of up to three axes, the last one contiguous.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    axes: [usize; 3],
    rank: usize,
}

impl Shape {
    /// A shape of one to three axes.
    ///
    /// # Panics
    /// With no axis or more than three.
    pub fn new(axes: &[usize]) -> Self {
        assert!((1..=3).contains(&axes.len()), "a tensor has one to three axes, not {}", axes.len());
        let mut a = [1; 3];
        a[..axes.len()].copy_from_slice(axes);
        Self { axes: a, rank: axes.len() }
    }

    /// Sizes, outermost first.
    pub fn axes(&self) -> &[usize] {
        &self.axes[..self.rank]
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.axes().iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size of the last axis.
    pub fn width(&self) -> usize {
        self.axes[self.rank - 1]
    }

    /// Number of vectors along the last axis.
    pub fn rows(&self) -> usize {
        self.axes[..self.rank - 1].iter().product()
    }

    /// The same with another last axis.
    pub fn with_width(mut self, width: usize) -> Self {
        self.axes[self.rank - 1] = width;
        self
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.axes())
    }
}

/// Where the numbers live: in a buffer of the pass, or with the parameters.
#[derive(Debug)]
pub(crate) enum Data {
    Own(Buffer),
    /// With what products are to multiply by them in.
    Shared(Arc<Kept>, Precision),
}

impl Deref for Data {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            Data::Own(b) => b,
            Data::Shared(v, _) => v,
        }
    }
}

/// Shared, immutable numbers.
pub(crate) type Values = Rc<Data>;

/// A dense `f32` array, row-major, of one to three axes; cloning it copies a handle.
///
/// It belongs to the pass that made it. Operations are methods; their shapes are given in brackets and a
/// mismatch is a bug in the model, reported by a panic that names both shapes.
#[derive(Clone)]
pub struct Tensor {
    pub(crate) shape: Shape,
    pub(crate) values: Values,
    pub(crate) node: Option<NodeId>,
    pub(crate) tape: Rc<Tape>,
    /// In inference: which columns of the rows belong to requests.
    pub(crate) split: Option<Rc<Split>>,
}

impl Tensor {
    /// Sizes of the axes, outermost first.
    pub fn shape(&self) -> &[usize] {
        self.shape.axes()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.shape.is_empty()
    }

    /// Size of the last axis.
    pub fn width(&self) -> usize {
        self.shape.width()
    }

    /// Number of vectors along the last axis.
    pub fn rows(&self) -> usize {
        self.shape.rows()
    }

    /// The numbers, row-major.
    pub fn data(&self) -> &[f32] {
        &self.values
    }

    /// A copy of the numbers.
    pub fn to_vec(&self) -> Vec<f32> {
        self.values.to_vec()
    }

    /// The only element of a scalar.
    ///
    /// # Panics
    /// If there is not exactly one element.
    pub fn item(&self) -> f32 {
        assert_eq!(self.len(), 1, "a tensor of shape {:?} is no scalar", self.shape);
        self.values[0]
    }

    /// Whether no element is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        self.values.iter().all(|v| v.is_finite())
    }

    /// The same numbers under another shape; nothing is copied.
    ///
    /// # Panics
    /// If the number of elements differs.
    pub fn reshape(&self, axes: &[usize]) -> Tensor {
        let shape = Shape::new(axes);
        assert_eq!(shape.len(), self.len(), "cannot view {:?} as {shape:?}", self.shape);
        let split = self.split.clone().filter(|_| axes[0] == self.shape()[0]);
        Tensor { shape, split, ..self.clone() }
    }

    /// `[N, .., W]` as `[N, ..·W]`.
    pub fn flatten(&self) -> Tensor {
        let n = self.shape()[0];
        let width = self.shape()[1..].iter().product();
        self.reshape(&[n, width])
    }

    /// The same numbers, through which no gradient flows.
    pub fn detach(&self) -> Tensor {
        Tensor { node: None, ..self.clone() }
    }

    /// The output of an operation; `back` is kept only if gradients are wanted (`tracked`).
    pub(crate) fn output(
        &self,
        shape: Shape,
        values: Values,
        tracked: bool,
        back: impl FnOnce(Buffer, &mut Grads) + 'static,
    ) -> Tensor {
        let node = tracked.then(|| self.tape.operation(Box::new(back)));
        Tensor { shape, values, node, tape: self.tape.clone(), split: None }
    }

    /// The parts of its rows, if it is `[N, width]` and there are any.
    pub(crate) fn split_rows(&self, width: usize) -> Option<&Split> {
        self.split.as_deref().filter(|s| self.shape.axes().len() == 2 && s.width() == width)
    }

    /// Panels for products with the transpose of a part of this weight `[O, I]`, if it is one that does not learn
    /// in this pass.
    pub(crate) fn panels(&self, choice: Choice<'_>) -> Option<Arc<Panels>> {
        self.still().map(|(kept, _)| kept.panels(self.rows(), choice))
    }

    /// As [`Tensor::panels`], if this pass multiplies by weights in fixed point.
    pub(crate) fn fixed(&self, choice: Choice<'_>) -> Option<Arc<FixedPanels>> {
        let (kept, precision) = self.still()?;
        (precision == Precision::I16).then(|| kept.fixed(self.rows(), choice))
    }

    /// The weight that this is, whole, if it does not learn in this pass.
    fn still(&self) -> Option<(&Kept, Precision)> {
        match &*self.values {
            Data::Shared(kept, precision) if !self.tracked() && kept.len() == self.len() => {
                Some((kept, *precision))
            }
            _ => None,
        }
    }

    /// Whether gradients flow to this value.
    pub(crate) fn tracked(&self) -> bool {
        self.node.is_some()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor{:?}{:?}", self.shape, &self.values[..self.len().min(8)])
    }
}

/// Wraps a finished buffer.
pub(crate) fn own(buffer: Buffer) -> Values {
    Rc::new(Data::Own(buffer))
}
