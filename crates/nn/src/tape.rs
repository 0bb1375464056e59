//! The tape: what was computed, so that gradients can flow back.

use crate::buffer::Buffer;
use crate::chunks;
use std::cell::RefCell;

/// A value that gradients flow to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeId(u32);

/// Takes the gradient of an operation's output and hands on those of its inputs.
type Back = Box<dyn FnOnce(Buffer, &mut Grads)>;

/// Operations in the order they ran.
pub(crate) struct Tape {
    nodes: RefCell<Vec<Option<Back>>>,
}

impl Tape {
    pub(crate) fn new() -> Self {
        Self { nodes: RefCell::new(Vec::new()) }
    }

    /// A value that keeps its gradient.
    pub(crate) fn leaf(&self) -> NodeId {
        self.push(None)
    }

    /// The output of an operation.
    pub(crate) fn operation(&self, back: Back) -> NodeId {
        self.push(Some(back))
    }

    fn push(&self, back: Option<Back>) -> NodeId {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(back);
        NodeId(nodes.len() as u32 - 1)
    }

    /// Forgets everything (and so frees what the operations kept).
    pub(crate) fn clear(&self) {
        let nodes = std::mem::take(&mut *self.nodes.borrow_mut());
        drop(nodes);
    }

    /// Runs back from `last`, whose gradient is `seed`; what is left are the leaves' gradients.
    pub(crate) fn run(&self, last: NodeId, seed: Buffer) -> Grads {
        let mut nodes = std::mem::take(&mut *self.nodes.borrow_mut());
        let mut grads = Grads { slots: Vec::new() };
        grads.slots.resize_with(nodes.len(), || None);
        grads.slots[last.0 as usize] = Some(seed);
        while let Some(node) = nodes.pop() {
            let Some(back) = node else { continue };
            if let Some(grad) = grads.slots[nodes.len()].take() {
                back(grad, &mut grads);
            }
        }
        grads
    }
}

/// Gradients under way, one place per value on the tape.
pub(crate) struct Grads {
    slots: Vec<Option<Buffer>>,
}

impl Grads {
    /// Adds `grad` to the gradient of `node`, if that one wants any.
    pub(crate) fn add(&mut self, node: Option<NodeId>, grad: Buffer) {
        let Some(NodeId(id)) = node else { return };
        match &mut self.slots[id as usize] {
            Some(sum) => chunks::update(sum, &grad, |a, b| a + b),
            slot => *slot = Some(grad),
        }
    }

    /// Lets `f(gradient, there is one already)` write (or add to) the gradient of `node`, of `len` elements.
    pub(crate) fn write(&mut self, node: Option<NodeId>, len: usize, f: impl FnOnce(&mut [f32], bool)) {
        let Some(NodeId(id)) = node else { return };
        let slot = &mut self.slots[id as usize];
        let there = slot.is_some();
        f(slot.get_or_insert_with(|| Buffer::any(len)), there);
    }

    /// Lets `f` add to the gradient of `node`, which starts as zero.
    pub(crate) fn sum(&mut self, node: Option<NodeId>, len: usize, f: impl FnOnce(&mut [f32])) {
        self.write(node, len, |grad, there| {
            if !there {
                grad.fill(0.0);
            }
            f(grad);
        });
    }

    /// The gradient of a leaf, if any flowed there.
    pub(crate) fn take(&mut self, node: NodeId) -> Option<Buffer> {
        self.slots[node.0 as usize].take()
    }
}
