//! Layers: sizes and names of weights, no data. They are `Send + Sync`.

mod activate;
mod batch_norm;
mod bilinear;
mod cross;
mod cross_mixture;
mod cross_vector;
mod dice;
mod embed;
mod field_attention;
mod field_aware;
mod layer_norm;
mod lhuc;
mod linear;
mod linear_terms;
mod mlp;
mod prelu;
mod recurrent;
mod transformer;

pub use activate::Activate;
pub use batch_norm::BatchNorm;
pub use bilinear::BilinearFusion;
pub use cross::CrossNet;
pub use cross_mixture::CrossMixture;
pub use cross_vector::VectorCross;
pub use dice::Dice;
pub use embed::{Embed, EmbedSpec};
pub use field_attention::FieldAttention;
pub use field_aware::FieldAware;
pub use layer_norm::LayerNorm;
pub use lhuc::Lhuc;
pub use linear::Linear;
pub use linear_terms::LinearTerms;
pub use mlp::{Mlp, MlpConfig};
pub use prelu::Prelu;
pub use recurrent::{Gru, Lstm};
pub use transformer::{BlockNorm, PlaceEmbedding, TransformerBlock, TransformerConfig};
