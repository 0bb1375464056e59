//! Operations on tensors, each with its backward pass.

mod activation;
mod cross;
mod elementwise;
mod factorise;
mod gather;
mod linear;
mod matmul;
pub(crate) mod norm;
mod pool;
mod reduce;
pub(crate) mod scatter;
mod select;
mod softmax;

pub use activation::Activation;
pub(crate) use activation::sigmoid;
pub use matmul::Transpose;
pub(crate) use pool::pool_bag;
pub use pool::{Bags, Pooling};
pub(crate) use softmax::softmax_row;
