//! BST (Chen et al., behaviour sequence transformer, DLP-KDD 2019): the candidate is the last action of its history, a transformer block
//! looks at all of them, and a tower stands over what comes out and the fields.
//!
//! The place of an element is its time gap to the request, as in the paper, where the sequence has `gap = true`; `places` of
//! `[model.sequence.transformer]` tells places apart by a learned vector besides (and by default where there are no gaps). `pool` says
//! what is read: `"last"` (the default) the candidate's own place, `"mean"`, `"sum"` or `"max"` over all. Unlike the paper's, the
//! outputs are not laid side by side, which takes histories of one length, and the feed-forward part bends by ReLU, not by its leaky
//! form. Blocks normalise after adding (`norm = "after"`), as in the paper.

use millstream_nn::Params;

use crate::behaviour::{self, Kind};
use crate::neural::options;
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("bst", |cfg| cfg.options::<Config>().map(drop), build);

options!(behaviour::defaults(););

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    behaviour::build(Kind::Bst, cfg.options::<Config>()?.neural(), (cfg, shape), params)
}
