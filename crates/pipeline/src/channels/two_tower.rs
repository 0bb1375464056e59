//! Nearest items to the user's vector in the space of the retriever named `two_tower`: a [`vector`] channel
//! under its own name.

use super::vector;
use crate::channel::ChannelDef;

/// Entry of the list of channels.
pub const DEF: ChannelDef = ChannelDef {
    name: "two_tower",
    by_default: true,
    lacks: |parts| (!parts.retrievers.contains_key("two_tower")).then_some("a retriever with an index"),
    build: vector::build,
    ..vector::DEF
};
