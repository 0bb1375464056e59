//! Drops what the user has seen, feedback that came during the request included. Always on.

use serde::Deserialize;

use crate::Error;
use crate::rule::{Entry, Rule, RuleCall, RuleDef, options};

/// Entry of the list of rules.
pub const DEF: RuleDef = RuleDef { name: "seen", by_author: false, build };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {}

struct Seen;

fn build(table: &toml::Table) -> Result<Box<dyn Rule>, Error> {
    let Options {} = options(table, DEF.name)?;
    Ok(Box::new(Seen))
}

impl Rule for Seen {
    fn apply(&self, x: &RuleCall<'_>, slate: &mut Vec<Entry>) -> Result<(), Error> {
        slate.retain(|e| !x.call.request.has_seen(e.item));
        Ok(())
    }
}
