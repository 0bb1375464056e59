//! The same data once everything has been chosen: what validated is learned too.

use super::{DatasetConfig, SplitBy};

impl DatasetConfig {
    /// The same configuration with the rows that validate among those to learn from, and nothing that validates. What tests is the
    /// same.
    #[must_use]
    pub fn without_valid(&self) -> Self {
        let mut out = self.clone();
        if self.split_by() != SplitBy::Files {
            out.split.valid = 0.0;
            return out;
        }
        out.split.valid_of_train = None;
        if let Some(table) = &mut out.dataset.table {
            table.train.append(&mut table.valid);
            if let Some(sizes) = &mut table.queries {
                sizes.train.append(&mut sizes.valid);
            }
        }
        if let Some(lines) = &mut out.dataset.sequences {
            (lines.valid_last, lines.valid_of_train) = (false, None);
            // A user's line in a later file goes on from the one before.
            lines.continued |= lines.user && !lines.valid.is_empty();
            lines.train.append(&mut lines.valid);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> DatasetConfig {
        DatasetConfig::parse(text, "dataset.toml").unwrap()
    }

    #[test]
    fn files_that_validate_are_learned_after_those_that_train() {
        let table = config(
            "[dataset]\nkind = \"table\"\n[dataset.table]\ntrain = [\"a\"]\nvalid = [\"b\"]\ntest = [\"c\"]\n\
             [[task]]\nname = \"click\"\ncolumn = \"label\"\n[[feature]]\nname = \"x\"\nside = \"user\"\nkind = \"numeric\"\n",
        );
        let files = table.without_valid().dataset.table.unwrap();
        assert_eq!(
            (files.train, files.valid, files.test),
            (vec!["a".into(), "b".into()], vec![], vec!["c".to_owned()])
        );
        let lines = config(
            "[dataset]\nkind = \"sequences\"\n[dataset.sequences]\ntrain = [\"a\"]\nvalid = [\"b\"]\ntest = [\"c\"]\n",
        );
        let files = lines.without_valid().dataset.sequences.unwrap();
        assert_eq!(
            (files.train, files.valid, files.continued),
            (vec!["a".into(), "b".into()], Vec::<String>::new(), true)
        );
    }

    #[test]
    fn what_is_held_out_of_the_training_rows_goes_back() {
        let last = config(
            "[dataset]\nkind = \"sequences\"\n[dataset.sequences]\ntrain = [\"a\"]\ntest = [\"c\"]\nvalid_last = true\n",
        );
        let files = last.without_valid().dataset.sequences.unwrap();
        assert!(!files.valid_last && !files.continued);
        let by_user = config("[dataset]\nkind = \"sequences\"\n[dataset.sequences]\ntrain = [\"a\"]\n");
        assert_eq!((by_user.split.valid, by_user.without_valid().split.valid), (0.1, 0.0));
        assert_ne!(by_user.fingerprint(), by_user.without_valid().fingerprint());
    }
}
