//! At most `max` items of one author, in the page and before anything else of theirs: further ones follow
//! after all others in their order, or are dropped when `hard`.

use rapidhash::RapidHashMap;
use serde::Deserialize;

use crate::Error;
use crate::rule::{Entry, Rule, RuleCall, RuleDef, options};

/// Entry of the list of rules.
pub const DEF: RuleDef = RuleDef { name: "per_author", by_author: true, build };

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Items per author.
    max: usize,
    /// Rather a short page than a further item.
    hard: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { max: 3, hard: false }
    }
}

struct PerAuthor(Options);

fn build(table: &toml::Table) -> Result<Box<dyn Rule>, Error> {
    let options: Options = options(table, DEF.name)?;
    if options.max == 0 {
        return Err(Error::Config("options of rule `per_author`: key `max` must be above 0".into()));
    }
    Ok(Box::new(PerAuthor(options)))
}

impl Rule for PerAuthor {
    fn apply(&self, x: &RuleCall<'_>, slate: &mut Vec<Entry>) -> Result<(), Error> {
        let mut counts: RapidHashMap<u32, usize> = RapidHashMap::default();
        let (mut kept, mut further) = (Vec::with_capacity(slate.len()), Vec::new());
        for &entry in slate.iter() {
            let author = x.call.catalogue.author(entry.item);
            let count = counts.entry(author).or_default();
            // 0: an item without an author is nobody's.
            if author == 0 || *count < self.0.max {
                *count += 1;
                kept.push(entry);
            } else {
                further.push(entry);
            }
        }
        if !self.0.hard {
            kept.append(&mut further);
        }
        *slate = kept;
        Ok(())
    }
}
