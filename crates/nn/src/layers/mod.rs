//! Layers: sizes and names of weights, no data. They are `Send + Sync`.

mod batch_norm;
mod cross;
mod embed;
mod layer_norm;
mod linear;
mod linear_terms;
mod mlp;

pub use batch_norm::BatchNorm;
pub use cross::CrossNet;
pub use embed::{Embed, EmbedSpec};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use linear_terms::LinearTerms;
pub use mlp::{Mlp, MlpConfig};
