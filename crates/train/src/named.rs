//! Which metrics are measured, known before anything is trained; and why one of them may have no value.

use millstream_schema::suggest;

/// What is measured after an epoch of a ranker.
const BRIEF: &[&str] = &["auc", "gauc", "logloss"];
/// What is measured of a ranker on a part.
const FULL: &[&str] = &["auc", "gauc", "logloss", "ne", "pr_auc", "f1", "best_f1", "calibration", "ece"];
/// What progressive validation measures.
const STREAM: &[&str] = &["logloss", "auc", "auc.error", "window.logloss", "window.auc"];
/// What is measured of lists at each cut-off.
const LISTS: &[&str] =
    &["recall", "precision", "hit_rate", "ndcg", "mrr", "map", "coverage", "gini", "novelty", "tail_share"];
/// And of right items among a few drawn ones.
const SAMPLED: &[&str] = &["sampled_hit_rate", "sampled_ndcg"];

/// What is measured, and of what.
#[derive(Debug, Clone, Copy)]
pub enum Measured<'a> {
    /// A ranker's scores of rows.
    Scores {
        /// T names.
        tasks: &'a [String],
        /// Whether each is of grades; those beyond the end are not.
        graded: &'a [bool],
        /// Cut-offs of graded tasks.
        k: &'a [usize],
        /// Whether on a part, where more is measured than after an epoch.
        whole: bool,
    },
    /// The rows of a stream before they are learned.
    Stream {
        /// T names.
        tasks: &'a [String],
    },
    /// Ranked lists.
    Lists {
        /// Cut-offs.
        k: &'a [usize],
        /// Whether right items are ranked among drawn ones too.
        sampled: bool,
    },
}

impl Measured<'_> {
    /// All keys that can have a value.
    pub fn keys(&self) -> Vec<String> {
        let at = |names: &[&str], k: &[usize]| -> Vec<String> {
            let cuts = |name: &&str| k.iter().map(|k| format!("{name}@{k}")).collect::<Vec<_>>();
            names.iter().flat_map(cuts).collect()
        };
        let plain = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        match *self {
            Self::Lists { k, sampled } => {
                let mut keys = at(LISTS, k);
                keys.extend(at(if sampled { SAMPLED } else { &[] }, k));
                keys
            }
            Self::Stream { tasks } => joined(tasks, &vec![plain(STREAM); tasks.len()], false),
            Self::Scores { tasks, graded, k, whole } => {
                let brief = !whole || graded.contains(&true);
                let of = |t: usize| match graded.get(t) {
                    Some(true) => at(&["ndcg"], k),
                    _ => plain(if brief { BRIEF } else { FULL }),
                };
                joined(tasks, &(0..tasks.len()).map(of).collect::<Vec<_>>(), true)
            }
        }
    }

    /// Refuses a metric that cannot be measured.
    ///
    /// # Errors
    /// What is wrong with the name, with the nearest one.
    pub fn check(&self, key: &str) -> Result<(), String> {
        let keys = self.keys();
        if keys.iter().any(|known| known == key) {
            return Ok(());
        }
        let (k, sampled) = match *self {
            Self::Lists { k, sampled } => (k, sampled),
            Self::Scores { k, .. } => (k, true),
            Self::Stream { .. } => (&[][..], true),
        };
        let (name, cut) = key.rsplit_once('@').unwrap_or((key, ""));
        if !sampled && SAMPLED.contains(&name) {
            return Err(format!("metric `{key}` is measured where [evaluate] says `sampled`"));
        }
        if cut.parse::<usize>().is_ok()
            && keys.iter().any(|k| k.rsplit_once('@').is_some_and(|k| k.0 == name))
        {
            let cuts: Vec<String> = k.iter().map(usize::to_string).collect();
            return Err(format!("metric `{key}` is not measured: [evaluate] k is {}", cuts.join(", ")));
        }
        // Where there is one task its metrics have no name before them.
        let bare = key.rsplit_once('.').map(|(_, bare)| bare).filter(|bare| keys.iter().any(|k| k == bare));
        let all = || keys.iter().map(String::as_str);
        match bare.filter(|_| suggest::nearest(key, all()).is_none()) {
            Some(bare) => Err(format!("unknown metric `{key}`; did you mean `{bare}`?")),
            None => Err(suggest::unknown("metric", key, all())),
        }
    }

    /// Why a metric that is measured has no value on the rows or users of `part`, in words.
    pub fn why_missing(&self, key: &str, part: &str) -> String {
        let metric = key.strip_suffix(".error").unwrap_or(key);
        let (task, metric) = metric.rsplit_once('.').unwrap_or(("", metric));
        let of = match task {
            "" | "mean" | "window" => String::new(),
            task => format!(" of task `{task}`"),
        };
        match (self, metric.split('@').next().unwrap_or(metric)) {
            (Self::Lists { .. }, _) => format!(
                "no user of {part} has anything left to find; users count who acted before it and on something new in \
                 it, since items acted on are not shown again unless [examples] says `repeats` or `seen_events`"
            ),
            (_, "ndcg") => format!("{part} holds no request{of}"),
            (_, "logloss" | "ece") => format!("{part} holds no rows{of}"),
            (_, "gauc") => format!("no user (`group`) has rows of both classes{of} in {part}"),
            (_, "auc" | "ne") => format!("{part} holds rows of one class only{of}"),
            _ => format!("{part} holds no positive row{of}"),
        }
    }
}

/// As metrics of several tasks are joined: the first task's bare, with several `TASK.key` of each, and `mean.key` of those
/// that all have.
fn joined(tasks: &[String], of_each: &[Vec<String>], mean: bool) -> Vec<String> {
    let first = of_each.first().cloned().unwrap_or_default();
    if tasks.len() < 2 {
        return first;
    }
    let shared = first.iter().filter(|key| mean && of_each.iter().all(|keys| keys.contains(key)));
    let mut keys: Vec<String> = shared.map(|key| format!("mean.{key}")).collect();
    for (task, own) in tasks.iter().zip(of_each) {
        keys.extend(own.iter().map(|key| format!("{task}.{key}")));
    }
    keys.splice(..0, first);
    keys
}

/// Cut-offs of a validation: those of the evaluation, and the monitored metric's own. Rising; 0 is none.
pub fn cuts(k: &[usize], monitor: Option<&str>) -> Vec<usize> {
    let own = monitor.and_then(|key| key.rsplit_once('@')?.1.parse().ok());
    let mut all: Vec<usize> = k.iter().copied().chain(own).filter(|k| *k > 0).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{GradedNdcg, RankingMetrics, Scored, Ties};
    use crate::progressive::Progressive;
    use millstream_schema::Batch;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    fn sorted(mut keys: Vec<String>) -> Vec<String> {
        keys.sort();
        keys
    }

    #[test]
    fn the_names_are_those_of_what_is_measured() {
        let mut scored = Scored::default();
        scored.push(&[0.9, 0.2], &[1.0, 0.0], &[7, 7], &[]);
        let one = names(&["click"]);
        let scores = |tasks, graded, whole| Measured::Scores { tasks, graded, k: &[5, 10], whole };
        let found = |whole| sorted(scores(&one, &[], whole).keys());
        assert_eq!(found(false), sorted(scored.brief().into_keys().collect()));
        assert_eq!(found(true), sorted(scored.report().values().into_keys().collect()));
        let mut graded = GradedNdcg::new(&[5, 10], Ties::InOrder);
        graded.add_groups(&[0.3, 0.1], &[2.0, 1.0], &[0, 0]);
        let keys = graded.counting_empty_as_one();
        assert_eq!(sorted(scores(&one, &[true], true).keys()), sorted(keys.into_keys().collect()));

        let two = names(&["click", "order"]);
        let by_task = crate::eval::by_task(&two, [scored.brief(), scored.brief()].into_iter());
        assert_eq!(sorted(scores(&two, &[], false).keys()), sorted(by_task.into_keys().collect()));

        for tasks in [&one, &two] {
            let mut progressive = Progressive::new(tasks, 10);
            let n = tasks.len();
            let labels = [vec![1.0; n], vec![0.0; n]].concat();
            progressive.push(&Batch { labels: labels.clone(), tasks: n, ..Batch::default() }, &labels);
            let keys = progressive.metrics().into_keys().collect();
            assert_eq!(sorted(Measured::Stream { tasks }.keys()), sorted(keys));
        }

        let mut lists = RankingMetrics::with_popularity(&[1, 2], &[3, 1, 1, 1, 1, 1, 1]);
        lists.add(&[4, 5], &[5, 6]);
        let keys = lists.finish().into_keys().collect();
        assert_eq!(sorted(Measured::Lists { k: &[1, 2], sampled: false }.keys()), sorted(keys));
    }

    #[test]
    fn a_name_that_is_not_measured_is_answered() {
        let tasks = names(&["click", "order"]);
        let scores = Measured::Scores { tasks: &tasks, graded: &[], k: &[10], whole: true };
        assert!(scores.check("click.auk").unwrap_err().contains("did you mean `click.auc`?"));
        assert!(scores.check("ndcg@10").unwrap_err().contains("unknown metric `ndcg@10`"));
        scores.check("mean.gauc").unwrap();
        let one = Measured::Scores { tasks: &tasks[..1], graded: &[], k: &[10], whole: false };
        assert!(one.check("click.auc").unwrap_err().contains("did you mean `auc`?"));
        let lists = Measured::Lists { k: &[5, 10], sampled: false };
        assert!(lists.check("recall@50").unwrap_err().contains("[evaluate] k is 5, 10"));
        assert!(lists.check("sampled_ndcg@5").unwrap_err().contains("`sampled`"));
        lists.check("mrr@5").unwrap();
    }

    #[test]
    fn what_is_missing_has_a_reason() {
        let tasks = names(&["click", "order"]);
        let scores = Measured::Scores { tasks: &tasks, graded: &[], k: &[], whole: true };
        assert!(scores.why_missing("order.auc", "the test part").contains("one class only of task `order`"));
        assert!(scores.why_missing("gauc", "the test part").contains("no user"));
        let lists = Measured::Lists { k: &[5], sampled: false };
        assert!(lists.why_missing("ndcg@5", "valid").contains("anything left to find"));
    }

    #[test]
    fn the_monitored_metric_has_its_own_cut_off() {
        assert_eq!(cuts(&[20, 5, 5], Some("ndcg@10")), [5, 10, 20]);
        assert_eq!(cuts(&[20], Some("auc")), [20]);
        assert_eq!(cuts(&[0, 3], None), [3]);
    }
}
