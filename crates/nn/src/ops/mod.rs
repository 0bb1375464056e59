//! Operations on tensors, each with its backward pass.

mod activation;
mod attend;
pub(crate) mod batch_norm;
mod cross;
mod cross_vector;
mod distance;
pub(crate) mod dropout;
mod elementwise;
mod exp;
mod factorise;
mod ffm;
mod gate;
mod gather;
mod gru;
mod layer_norm;
mod linear;
mod lstm;
mod matmul;
pub(crate) mod norm;
mod pool;
mod reduce;
mod rope;
pub(crate) mod scatter;
mod select;
mod seq_attend;
mod softmax;
pub(crate) mod split;
mod steps;

pub use activation::Activation;
pub(crate) use activation::sigmoid;
pub(crate) use exp::{LANES, exp as fast_exp, exp_all, fast_sigmoid, largest};
pub use matmul::Transpose;
pub use pool::{Bags, Pooling};
pub(crate) use pool::{bag_weight, pool_bag};
pub use seq_attend::SeqAttention;
pub(crate) use softmax::softmax_row;
