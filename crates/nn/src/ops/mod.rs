//! Operations on tensors, each with its backward pass.

mod activation;
mod attend;
mod augru;
pub(crate) mod batch_norm;
mod cross;
mod cross_vector;
pub(crate) mod din;
mod distance;
pub(crate) mod dropout;
mod elementwise;
pub(crate) mod experts;
mod factorise;
mod ffm;
mod gate;
mod gather;
mod linear;
mod matmul;
pub(crate) mod norm;
mod pool;
mod reduce;
pub(crate) mod scatter;
mod select;
mod small;
mod softmax;
mod spans;
pub(crate) mod split;

pub use activation::Activation;
pub(crate) use activation::sigmoid;
pub use matmul::Transpose;
pub use pool::{Bags, Pooling};
pub(crate) use pool::{bag_weight, pool_bag};
pub(crate) use softmax::softmax_row;
