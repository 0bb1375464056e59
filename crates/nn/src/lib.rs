//! Dense layers, losses, optimisers; alone names the tensor engine.
//!
//! The engine is a small tape of our own on the `gemm` crate: `f32`, on the CPU, on rayon's global pool. A model's
//! constructor asks [`Params`] for weights and embedding tables; its forward pass takes a [`Pass`] and [`Inputs`] and
//! returns a [`Tensor`]; [`Pass::backward`] leaves [`Gradients`], which an [`Optimiser`] applies to the dense weights
//! and the store to the rows.
//!
//! ```
//! use millstream_nn::{DenseOptim, Linear, Mode, Optimiser, Params, Pass, loss};
//!
//! let mut params = Params::new(7);
//! let layer = Linear::new(&mut params, "head", 2, 1)?;
//! let mut optimiser = Optimiser::new(DenseOptim::adam(0.1));
//! let mut last = f32::INFINITY;
//! for step in 0..50 {
//!     let pass = Pass::new(&params, Mode::Train, step);
//!     let x = pass.constant(&[2, 2], vec![1.0, 0.0, 0.0, 1.0]);
//!     let loss = loss::bce_with_logits(&layer.forward(&pass, &x), &[1.0, 0.0], &[]);
//!     last = loss.item();
//!     let gradients = pass.backward(&loss);
//!     drop((loss, x, pass));
//!     optimiser.step(&mut params, &gradients);
//! }
//! assert!(last < 0.2);
//! # Ok::<(), millstream_nn::Error>(())
//! ```

mod bipartite;
mod buffer;
mod chunks;
mod error;

pub mod fgm;
mod fixed;
#[doc(hidden)]
pub mod gradcheck;
mod init;
mod inputs;
mod kept;
pub mod kernels;
mod layers;
mod lookup;
pub mod loss;
mod nearest;
mod ops;
mod optim;
mod pairs;
mod params;
mod pass;
mod product;
mod ragged;
mod schedule;
mod tape;
mod tensor;
mod tiles;

pub use bipartite::{Bipartite, settled};
pub use error::{Error, Result};
pub use init::{Init, RowInit};
pub use inputs::{FieldInput, Inputs};
pub use layers::{
    Activate, ActivationUnit, AttentionPool, Augru, BatchNorm, Bilinear, BilinearFusion, BlockNorm,
    CapsuleConfig, Capsules, Clustered, Clusters, Combine, CrossMixture, CrossNet, Dice, Embed, EmbedSpec,
    Experts, FieldAttention, FieldAware, GatedGraph, Gates, GraphAttention, Gru, Items, LayerNorm, Lhuc,
    Linear, LinearEach, LinearTerms, Lstm, Mlp, MlpConfig, PairWeighting, PlaceEmbedding, Prelu, SceneQuery,
    SelfAttentive, SeqEmbed, SeqEncoder, SeqPool, Sequence, SessionGraph, SessionInterest, SoftAttention,
    TargetAttention, TargetTransformer, TransformerBlock, TransformerConfig, UnitConfig, VectorCross,
};
pub use lookup::{Lookup, Places, Planner, SpaceKeys};
pub use ops::{Activation, Bags, Pooling, SeqAttention, Transpose};
pub use optim::{
    AdaGrad, Adam, AdamW, DenseOptim, Ftrl, LookAhead, Moments, OptimState, Optimiser, RAdam, RmsProp, Sgd,
};
pub use pairs::Pairs;
pub use params::{ParamId, Params, Precision, TableId, TableSpec, Weight, Weights};
pub use pass::{Gradients, Mode, Pass};
pub use ragged::Ragged;
pub use schedule::{Decay, Schedule};
pub use tensor::Tensor;
