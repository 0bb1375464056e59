//! Drops what may not be shown: not born yet, retired, or removed, also during the request. Always on.

use serde::Deserialize;

use crate::Error;
use crate::rule::{Entry, Rule, RuleCall, RuleDef, options};

/// Entry of the list of rules.
pub const DEF: RuleDef = RuleDef { name: "alive", by_author: false, build };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {}

struct Alive;

fn build(table: &toml::Table) -> Result<Box<dyn Rule>, Error> {
    let Options {} = options(table, DEF.name)?;
    Ok(Box::new(Alive))
}

impl Rule for Alive {
    fn apply(&self, x: &RuleCall<'_>, slate: &mut Vec<Entry>) -> Result<(), Error> {
        let now = x.call.request.time_ms;
        slate.retain(|e| x.call.catalogue.is_alive(e.item, now) && !x.latest.is_removed(e.item));
        Ok(())
    }
}
